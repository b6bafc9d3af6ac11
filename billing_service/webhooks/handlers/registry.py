"""Which type of event has which handler, and what a handler makes of an event: an errand."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bson import ObjectId

from ...documents import OutboxSignal, WebhookEvent
from ...extras import Payment, TopUp
from ...plans import Plans
from ...refunds import Seen
from ...stripe_gateway import StripeGateway


@dataclass(frozen=True)
class Desk:
    """What handling an event needs of the running process; `metered`: METER_MODE is on, so extras expire."""

    stripe: StripeGateway
    plans: Plans
    retry_delays: tuple[int, ...]
    clock: Callable[[], datetime]
    metered: bool = False


@dataclass(frozen=True)
class Errand:
    """What is to be done about an event.

    `look`: bring the organization's row to what Stripe shows now; `subscriptions` and `customers` are what the
    event names. `signals` are stored as the event is settled, `refunds` settle requests of
    ours, `top_up` and `payment` are booked in the ledger of extras. Without an organization it is not ours: ignored.
    """

    organization: ObjectId | None
    look: bool = False
    subscriptions: tuple[str, ...] = ()
    customers: tuple[str, ...] = ()
    failed_at: datetime | None = None
    deleted_customer: str | None = None
    signals: tuple[OutboxSignal, ...] = ()
    refunds: tuple[Seen, ...] = ()
    top_up: TopUp | None = None
    payment: Payment | None = None
    source: str = "webhook"

    @property
    def outcome(self) -> str:
        """What a settled event is called."""
        effects = (self.look, self.signals, self.refunds, self.top_up, self.payment)
        return "applied" if self.organization and any(effects) else "ignored"


NOT_OURS = Errand(None)

Handler = Callable[[WebhookEvent, dict[str, Any], Desk], Errand]

HANDLERS: dict[str, Handler] = {}


def handles(*types: str) -> Callable[[Handler], Handler]:
    """Register a handler for event types; the list of types to enable at Stripe is derived from these.

    A handler gets the event and its object as Stripe's JSON, reads and writes nothing but what finding its errand
    needs, and raises what decides about the event in `dispatch`.
    """

    def register(handler: Handler) -> Handler:
        for each in types:
            if each in HANDLERS:
                raise ValueError(f"{each} has two handlers")
            HANDLERS[each] = handler
        return handler

    return register
