"""The second look, later: what is still so is a divergence, everything else was on its way."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId
from mongoengine.errors import OperationError
from pymongo.errors import PyMongoError

from ..documents import STORE_ERRORS, Finding, ReconciliationCandidate, Subscription, WebhookEvent
from ..documents.finding import OPEN_STATES
from ..documents.webhook_event import UNSETTLED_STATES
from ..errors import (
    BillingError,
    InternalError,
    MissingUnproven,
    StoreUnavailable,
    StripeMisconfigured,
    StripeMissing,
    StripeRateLimited,
    StripeUnavailable,
)
from ..observability import log
from ..scans import LostLease
from ..stripe_gateway import LiveSubscription, StripeGateway
from ..subscriptions import MARKER, OF_STRIPE, named_organization
from ..subscriptions.stored_row import PROJECTION, StoredRow
from . import recording
from .books import books_of
from .causes import cause_of
from .diagnosis import diagnose
from .holding import Desk, Hold, Trouble
from .neighbours import plans_of, rows_of
from .picture import Picture

# Another picture each time: it is on its way, and no finding.
RESTARTS = 3
FAILURES = 5
UNPROVEN = "not shown, not proven gone"
FIRST_PAUSE = timedelta(seconds=2)


@dataclass
class Look:
    """What one look at a candidate showed; `moving`: something is on its way that explains any difference."""

    picture: Picture
    moving: bool = False
    again: bool = False
    requests: int = 0


@dataclass
class _Reader:
    """Reads subscriptions one by one, and counts. Slow requests, one after the other, must not cost the lease."""

    hold: Hold
    found: dict[str, LiveSubscription] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)
    requests: int = 0

    @property
    def _stripe(self) -> StripeGateway:
        self.hold.pulse()
        self.requests += 1
        return self.hold.desk.stripe

    def retrieve(self, subscription_id: str) -> None:
        if subscription_id in self.found or subscription_id in self.missing:
            return
        try:
            self.found[subscription_id] = self._stripe.subscription(subscription_id).value
        except StripeMissing:
            self.missing.add(subscription_id)

    def list_customer(self, customer_id: str) -> None:
        try:
            listed = self._stripe.subscriptions_of(customer_id).value
        except StripeMissing:
            return
        for each in listed:
            self.found.setdefault(each.id, each)

    def require_proof(self, row: StoredRow) -> None:
        """A missing object is gone only if this key sees the customer it belonged to. Raises MissingUnproven."""
        try:
            if row.stripe_customer_id:
                self._stripe.customer(row.stripe_customer_id)
                return
        except StripeMissing:
            pass
        raise MissingUnproven(
            f"Stripe does not show {row.stripe_subscription_id} and this key does not see its customer either: the key "
            "may be of another account or mode."
        )

    def marker_of(self, customer_id: str) -> ObjectId | None:
        """The organization that a customer's metadata name."""
        try:
            return named_organization(self._stripe.customer(customer_id).value.metadata)
        except StripeMissing:
            return None


def confirm_all(hold: Hold, stop: Callable[[], bool]) -> datetime | None:
    """Look again at what is due; returns when the next is, None if it is time to stop or all is done."""
    with hold.desk.stripe.background():
        while not stop():
            hold.pulse()
            waiting = ReconciliationCandidate.objects(run=hold.run.pk, state="waiting")
            candidate = waiting.order_by("due_at").first()
            if candidate is None:
                hold.enter("resolving")
                return None
            if candidate.due_at > hold.desk.clock():
                return candidate.due_at
            _settle(hold, candidate)
    return None


def look_first(hold: Hold, org_id: ObjectId) -> frozenset[str]:
    """The evidence of a first look at one organization; what cannot be compared is found out by the second."""
    try:
        look = _look(hold, org_id, (), whole=True, books=hold.desk.meter_mode)
    except (MissingUnproven, StoreUnavailable):
        return frozenset({UNPROVEN})
    found = diagnose(look.picture, hold.desk.plans, hold.desk.clock())
    hold.commit(inc={"stripe_requests": look.requests})
    return frozenset().union(*(each.evidence for each in found))


def _settle(hold: Hold, candidate: ReconciliationCandidate) -> None:
    try:
        look = _look_again(hold, candidate)
        if look is not None:
            _judge(hold, candidate, look)
    except (LostLease, BillingError, *STORE_ERRORS, OperationError, PyMongoError):
        raise
    except Exception as bug:
        # It must not keep the others from being looked at, week after week.
        log.error("reconciliation_failed_for_one", subject=candidate.subject, exc_info=bug)
        _postpone(hold, candidate, InternalError(type(bug).__name__))


def _look_again(hold: Hold, candidate: ReconciliationCandidate) -> Look | None:
    """What a candidate shows now; None: it alone could not be looked at, which is written down."""
    named, whole = tuple(candidate.subscriptions), hold.run.organization is not None
    # Another process may have added up, and be set otherwise.
    books = hold.desk.meter_mode or hold.run.metered
    try:
        return _look(hold, candidate.organization, named, whole=whole, books=books)
    except (StripeUnavailable, StripeRateLimited) as error:
        if not _answers_otherwise(hold.desk, error):
            raise
        _postpone(hold, candidate, error)
    except OF_STRIPE:
        raise
    except BillingError as error:
        _give_up(hold, candidate, error)
    return None


def _judge(hold: Hold, candidate: ReconciliationCandidate, look: Look) -> None:
    found = diagnose(look.picture, hold.desk.plans, hold.desk.clock())
    counts = {"stripe_requests": look.requests}
    if not found and not look.again:
        recording.close(hold, candidate, "cleared", counts)
    elif look.moving:
        recording.close(hold, candidate, "in_flight", counts | {"in_flight": 1})
    else:
        seen = set(candidate.seen)
        lasting = [each for each in found if each.evidence <= seen]
        if (look.again or len(lasting) < len(found)) and candidate.restarts < RESTARTS:
            fresh = frozenset().union(*(each.evidence for each in found))
            recording.wait_again(hold, candidate, sorted(fresh), counts)
        elif look.again or not lasting:
            recording.close(hold, candidate, "in_flight", counts | {"in_flight": 1})
        else:
            told = [(each, cause_of(hold, each, look.picture.row)) for each in lasting]
            recording.record(hold, candidate, told, counts)


def _look(hold: Hold, org_id: ObjectId | None, named: tuple[str, ...], *, whole: bool, books: bool) -> Look:
    """Row, Stripe, row again, and the `books`: what changed in between is looked at another time."""
    reader = _Reader(hold)
    for each in (*named, *(_noted(org_id) if whole and org_id else ())):
        reader.retrieve(each)
    if org_id is None:
        org_id = _owner_of(reader)
    before = _row_of(org_id)
    if before is None and org_id is None:
        gone = not reader.found or any(_row_named(each) for each in reader.found)
        found = () if gone else tuple(reader.found.values())
        return Look(Picture(None, None, found=found), requests=reader.requests, moving=_unsettled(named))
    looked = whole or bool(named)
    if looked and before is not None:
        _read_own(reader, before, whole)
    plans = plans_of([org_id] if org_id else [])
    after = _row_of(org_id)
    own = after.stripe_subscription_id if after else None
    picture = Picture(
        org_id,
        after,
        plans.get(org_id),
        org_id in plans,
        found=tuple(reader.found.values()),
        gone=frozenset({own} & reader.missing) if own else frozenset(),
        looked=looked,
        books=books_of(org_id, hold.desk.clock()) if books and org_id else None,
    )
    again = (before.version if before else None) != (after.version if after else None)
    moving = looked and (_unsettled((*reader.found, *reader.missing)) or bool(after and after.verify_at))
    return Look(picture, moving=moving, again=again, requests=reader.requests)


def _read_own(reader: _Reader, row: StoredRow, whole: bool) -> None:
    own = row.stripe_subscription_id
    if own:
        reader.retrieve(own)
    if own in reader.missing:
        reader.require_proof(row)
    if whole:
        candidates = [each.get("stripe_customer_id") for each in row.candidates or ()]
        for customer_id in dict.fromkeys(filter(None, (row.stripe_customer_id, *candidates))):
            reader.list_customer(customer_id)


def _noted(org_id: ObjectId) -> list[str]:
    """The subscriptions of an organization's findings: without a row nothing else leads to them."""
    open_ones = Finding.objects(organization=org_id, state__in=OPEN_STATES).only("stripe_subscription_ids")
    return [one for each in open_ones for one in each.stripe_subscription_ids]


def _owner_of(reader: _Reader) -> ObjectId | None:
    """Whose a subscription is that no row named: somebody may have attached it since, or its customer says it."""
    found = list(reader.found.values())
    if not found:
        return None
    subscription = found[0]
    if row := _row_named(subscription.id):
        return row.organization
    if subscription.metadata.get(MARKER):
        return named_organization(subscription.metadata)
    rows = rows_of([subscription])
    if subscription.customer in rows:
        return rows[subscription.customer].organization
    return reader.marker_of(subscription.customer)


def _row_of(org_id: ObjectId | None) -> StoredRow | None:
    return _row({"organization": org_id}) if org_id else None


def _row_named(subscription_id: str) -> StoredRow | None:
    return _row({"stripe_subscription_id": subscription_id})


def _row(wanted: dict[str, Any]) -> StoredRow | None:
    raw = Subscription._get_collection().find_one(wanted, PROJECTION)
    return StoredRow(raw) if raw else None


def _unsettled(subscriptions: tuple[str, ...]) -> bool:
    """Whether an event of these is not settled yet."""
    waiting = WebhookEvent.objects(stripe_subscription_id__in=list(subscriptions), state__in=UNSETTLED_STATES)
    return waiting.only("id").first() is not None


def _answers_otherwise(desk: Desk, error: BillingError) -> bool:
    """Whether it is this object alone that Stripe does not answer for."""
    if isinstance(error, StripeRateLimited) and error.facts.get("stripeCode") != "lock_timeout":
        return False
    try:
        desk.stripe.account()
    except StripeMisconfigured:  # a restricted key may not ask this, but was answered
        return True
    except OF_STRIPE:
        return False
    return True


def _postpone(hold: Hold, candidate: ReconciliationCandidate, error: BillingError) -> None:
    if candidate.failures + 1 >= FAILURES:
        _give_up(hold, candidate, error)
        return
    pause = FIRST_PAUSE * 2**candidate.failures
    recording.postpone(hold, candidate, pause)


def _give_up(hold: Hold, candidate: ReconciliationCandidate, error: BillingError) -> None:
    trouble = Trouble(candidate.subject, error.code, error.detail)
    recording.close(hold, candidate, "error", {}, trouble)
