"""A page of Stripe's list of subscriptions for who compares thousands: a few fields of each, the rest left unread.

Making dicts of all that Stripe tells costs three times as much as the few fields, and most are never looked at.
"""

from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import orjson

from .shapes import LiveSubscription, subscription

_Id = Annotated[str, msgspec.Meta(min_length=1)]


class Priced(msgspec.Struct, gc=False):
    """The price of an item."""

    id: str


class GlanceItem(msgspec.Struct, gc=False):
    """An item; periods are Unix seconds, None where it has none of its own."""

    price: Priced
    current_period_start: int | None
    current_period_end: int | None
    quantity: int | None = None


class GlanceItems(msgspec.Struct, gc=False):
    """The items of a subscription, as Stripe nests them."""

    data: list[GlanceItem]


class Glance(msgspec.Struct, gc=False):
    """What is compared of a subscription, named as Stripe names it; times are Unix seconds."""

    id: _Id
    created: int
    customer: str
    status: str
    items: GlanceItems
    metadata: dict[str, str]
    cancel_at_period_end: bool
    cancel_at: int | None


class _Sketch(msgspec.Struct):
    id: _Id
    created: Any = None


class _Page(msgspec.Struct):
    data: list[msgspec.Raw]
    has_more: bool = False


@dataclass(frozen=True)
class ListedSubscription:
    """One of a page. `glance` is None where Stripe tells it otherwise than most: then only `read` knows."""

    id: str
    created: Any
    glance: Glance | None
    content: msgspec.Raw

    def read(self) -> LiveSubscription:
        """All of it; raises one of UNREADABLE."""
        return subscription(orjson.loads(memoryview(self.content)))


@dataclass(frozen=True)
class GlancePage:
    """A page, newest first."""

    found: list[ListedSubscription]
    has_more: bool


_read_page = msgspec.json.Decoder(_Page).decode
_read_glance = msgspec.json.Decoder(Glance).decode
_read_sketch = msgspec.json.Decoder(_Sketch).decode


def glance_page(content: bytes) -> GlancePage:
    """Read Stripe's answer. Raises ValueError that says what it is not."""
    try:
        page = _read_page(content)
        return GlancePage([_listed(each) for each in page.data], page.has_more)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError("it is no list of subscriptions") from error


def _listed(content: msgspec.Raw) -> ListedSubscription:
    try:
        glance = _read_glance(content)
        return ListedSubscription(glance.id, glance.created, glance, content)
    except msgspec.ValidationError:
        # Its id and time place it in the list; whoever wants more reads all of it.
        sketch = _read_sketch(content)
        return ListedSubscription(sketch.id, sketch.created, None, content)
