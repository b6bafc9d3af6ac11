"""Looking at Stripe: everything that is known there of one organization's subscriptions.

Nothing is decided and nothing is written here.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from bson import ObjectId

from ..documents import Subscription
from ..errors import MissingUnproven, StripeMissing
from ..stripe_gateway import StripeGateway
from ..stripe_gateway.shapes import LiveSubscription, Read
from .selection import choose, live_ones
from .statuses import ENDED, PAID_UP
from .stored_row import StoredRow

MARKER = "organizationId"
_ORGANIZATION_ID = re.compile(r"[0-9a-fA-F]{24}")


@dataclass(frozen=True)
class Observation:
    """What Stripe showed. `gone`: the row's subscription does not exist there any more, and that is proven.

    `complete`: all of the organization's subscriptions were looked at, not its own alone. `unseen` are the row's own,
    its candidates and those asked for by name that were not shown: they are gone, or Stripe's reads lag.
    `customer_deleted` is None while nobody has asked.
    """

    chosen: LiveSubscription | None
    as_of: datetime | None
    seen_until: datetime | None = None
    found: tuple[LiveSubscription, ...] = ()
    gone: bool = False
    unseen: tuple[str, ...] = ()
    customer_deleted: bool | None = None
    past_due_evidence: datetime | None = None
    conflicting: tuple[LiveSubscription, ...] = ()
    complete: bool = True

    @property
    def live(self) -> tuple[LiveSubscription, ...]:
        """All that are billed, oldest first."""
        return live_ones(self.found)

    @property
    def ids(self) -> frozenset[str]:
        """All subscriptions that were shown or asked for."""
        return frozenset({each.id for each in self.found} | set(self.unseen))

    @property
    def others(self) -> tuple[LiveSubscription, ...]:
        """All that have not ended and are not the chosen one."""
        return tuple(each for each in self.found if each != self.chosen and each.status not in ENDED)


@dataclass
class Look:
    """One look at Stripe; a retrieval wins over a list, which can lag behind it by seconds."""

    stripe: StripeGateway
    found: dict[str, Read[LiveSubscription]] = field(default_factory=dict)
    retrieved: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    customers: dict[str, str] = field(default_factory=dict)  # id -> listed | kept | deleted | missing

    def know(self, known: Iterable[Read[LiveSubscription]]) -> None:
        """Take in what was retrieved a moment ago."""
        for read in known:
            self.found[read.value.id] = read
            self.retrieved.add(read.value.id)

    def list_customer(self, customer_id: str) -> None:
        """Read all subscriptions of a customer, canceled ones included."""
        try:
            read = self.stripe.subscriptions_of(customer_id)
        except StripeMissing:
            self.customers[customer_id] = self._fate_of(customer_id)
            return
        self.customers[customer_id] = "listed"
        for each in read.value:
            self.found.setdefault(each.id, Read(each, read.as_of, read.request_id, read.seen_until))

    def _fate_of(self, customer_id: str) -> str:
        try:
            return "deleted" if self.stripe.customer(customer_id).value.deleted else "kept"
        except StripeMissing:
            return "missing"

    def retrieve(self, subscription_id: str) -> None:
        """Read one subscription; its absence is noted, not judged."""
        if subscription_id in self.retrieved:
            return
        self.retrieved.add(subscription_id)
        try:
            self.found[subscription_id] = self.stripe.subscription(subscription_id)
        except StripeMissing:
            self.found.pop(subscription_id, None)
            self.missing.add(subscription_id)

    def choose(self, among: Iterable[str]) -> LiveSubscription | None:
        """Choose, with the chosen one confirmed by a retrieval."""
        ids = set(among)
        while True:
            best = choose(read.value for key, read in self.found.items() if key in ids)
            if best is None or best.id in self.retrieved:
                return best
            self.retrieve(best.id)

    def ask_fate(self, customer_id: str) -> None:
        """Find out whether a customer is deleted: the list of a deleted one's subscriptions does not tell."""
        if self.customers.get(customer_id) != "deleted":
            self.customers[customer_id] = self._fate_of(customer_id)

    def proves_gone(self, customer_id: str | None) -> bool:
        """A missing object is gone only if this key sees the customer it belonged to (promise P4)."""
        if not customer_id:
            return False
        fate = self.customers.get(customer_id)
        if fate is None:
            fate = self.customers[customer_id] = self._fate_of(customer_id)
        return fate in ("listed", "kept", "deleted")

    def is_deleted(self, customer_id: str | None) -> bool | None:
        """Whether a customer is deleted; None if that was not found out: the list of a deleted one answers too."""
        return {"deleted": True, "kept": False}.get(self.customers.get(customer_id or "", ""))


def observe(
    stripe: StripeGateway,
    row: Subscription,
    *,
    named: tuple[str, ...] = (),
    customers: tuple[str, ...] = (),
    known: Iterable[Read[LiveSubscription]] = (),
    complete: bool = True,
    deleted: Collection[str] = (),
    failed_at: datetime | None = None,
) -> Observation:
    """Read what Stripe has for the row's organization.

    `named` and `customers` are further subscriptions and customers to look at, `known` was retrieved just now.
    With `complete=False` the row's own subscription suffices while it is active or trialing. `deleted` are
    customers that are said to be deleted, `failed_at` when a payment is said to have failed.
    Raises MissingUnproven when the row's subscription is not shown and this key cannot prove that it is gone.
    """
    look = Look(stripe)
    look.know(known)
    own = row.stripe_subscription_id
    if not complete and own and not row.candidates and not customers and set(named) <= {own}:
        look.retrieve(own)
        if own in look.found and look.found[own].value.status in PAID_UP:
            return _seen(row, look, complete=False)
    for customer_id in _distinct(
        row.stripe_customer_id, *(each.stripe_customer_id for each in row.candidates), *customers
    ):
        look.list_customer(customer_id)
    for subscription_id in _distinct(own, *(each.stripe_subscription_id for each in row.candidates), *named):
        if subscription_id not in look.found:
            look.retrieve(subscription_id)
    if row.stripe_customer_id in deleted:
        look.ask_fate(row.stripe_customer_id)
    return _seen(row, look, complete=True, named=named, failed_at=failed_at)


def _seen(
    row: Subscription,
    look: Look,
    *,
    complete: bool,
    named: Iterable[str] = (),
    failed_at: datetime | None = None,
) -> Observation:
    own = row.stripe_subscription_id
    gone = bool(own) and own in look.missing
    if gone and not look.proves_gone(row.stripe_customer_id):
        raise MissingUnproven(
            f"Stripe does not show {own} and this key does not see its customer either: the key may be of another "
            "account or mode. Nothing was written. Check STRIPE_SECRET_KEY."
        )
    mine = {key for key, read in look.found.items() if belongs(read.value, row)}
    chosen = look.choose(mine)
    found = tuple(read.value for key, read in look.found.items() if key in mine)
    return Observation(
        chosen=chosen,
        as_of=look.found[chosen.id].as_of if chosen else None,
        seen_until=look.found[chosen.id].seen_until if chosen else None,
        found=found,
        gone=gone or (bool(own) and own in look.missing),
        unseen=tuple(each for each in _distinct(own, *_candidates_of(row), *named) if each in look.missing),
        customer_deleted=look.is_deleted(chosen.customer if chosen else row.stripe_customer_id),
        past_due_evidence=_past_due_evidence(look.stripe, row, chosen, failed_at),
        conflicting=tuple(read.value for key, read in look.found.items() if key not in mine),
        complete=complete,
    )


def _candidates_of(row: Subscription) -> list[str]:
    return [each.stripe_subscription_id for each in row.candidates]


def belongs(found: LiveSubscription, row: Subscription | StoredRow) -> bool:
    """Whether the subscription's own metadata does not name another organization."""
    return named_organization(found.metadata) in (None, row.organization)


def named_organization(metadata: Mapping[str, str]) -> ObjectId | None:
    """The organization that an object's metadata name; None also for what is no organization's id."""
    text = metadata.get(MARKER)
    return ObjectId(text) if text and _ORGANIZATION_ID.fullmatch(text) else None


def _past_due_evidence(
    stripe: StripeGateway, row: Subscription, chosen: LiveSubscription | None, failed_at: datetime | None
) -> datetime | None:
    if chosen is None or chosen.status != "past_due":
        return None
    same = row.stripe_subscription_id == chosen.id
    opened = stripe.open_invoices_of(chosen.id).value
    if same and row.past_due_since and row.status not in PAID_UP:
        # The same spell, unless what it began with was paid while nobody looked and a later invoice is open now.
        return max(row.past_due_since, min(opened, default=row.past_due_since))
    started = chosen.current_period_start
    # The event of an earlier period, replayed, is of an earlier spell.
    told = (failed_at,) if failed_at and (started is None or failed_at >= started) else ()
    evidence = opened or told
    if same and row.status in PAID_UP and row.as_of:
        # An older invoice that is still open is of an earlier spell: the subscription was paid up since.
        paid_up_at = row.as_of
        evidence = tuple(each for each in evidence if each > paid_up_at)
    return min(evidence, default=chosen.current_period_start)


def _distinct(*ids: str | None) -> list[str]:
    return list(dict.fromkeys(each for each in ids if each))
