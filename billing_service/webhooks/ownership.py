"""Whose event it is: the organization that its objects belong to, or why none can be named."""

import contextlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bson import ObjectId
from mongoengine import Q
from mongoengine.errors import NotUniqueError

from ..documents import Finding, Organization, Subscription, WebhookEvent, database_now
from ..documents.finding import OPEN_STATES
from ..errors import StripeMissing
from ..observability import log
from ..plans import Plans
from ..stripe_gateway import LiveSubscription, StripeGateway
from ..subscriptions import MARKER, named_organization
from . import ledger


class OwnerUnknown(Exception):
    """Ours by its marker or its price, but of no organization that is known; it may become known."""

    def __init__(self, words: str, organization: ObjectId | None = None):
        super().__init__(words)
        self.organization = organization


class OwnerDisputed(Exception):
    """Two organizations are named; `reason` is organization_conflict or customer_shared."""

    def __init__(self, reason: str, words: str, organization: ObjectId, named: ObjectId | None = None):
        super().__init__(words)
        self.reason = reason
        self.organization = organization
        self.named = named


@dataclass(frozen=True)
class Claim:
    """What an event says of itself: Stripe's ids, and who of its objects names which organization."""

    subscription: str | None
    customer: str | None
    markers: tuple[tuple[str, str], ...] = ()
    priced: bool = False  # at a price of the plan file: ours, whether it says so or not
    learned: ObjectId | None = None  # whose it was when somebody attached it; it may be over and nobody's row by now


def claim_of(subscription: LiveSubscription, plans: Plans) -> Claim:
    """What a subscription says of itself."""
    priced = plans.resolve(subscription.items).plan is not None
    return Claim(subscription.id, subscription.customer, _marker(subscription.id, subscription.metadata), priced)


def owner_of(
    sent: LiveSubscription, *, stripe: StripeGateway, plans: Plans, learned: ObjectId | None = None
) -> ObjectId | None:
    """The organization of a subscription as an event shows it; None: another product's, not ours.

    Raises OwnerUnknown, OwnerDisputed and what the gateway raises.
    """
    try:
        return judge(replace(claim_of(sent, plans), learned=learned), stripe)
    except (OwnerUnknown, OwnerDisputed):
        # The payload is as old as its event; somebody may have corrected the metadata at Stripe since.
        current = live_subscription(sent.id, stripe)
        if current is None or (current.customer, current.metadata) == (sent.customer, sent.metadata):
            raise
        return judge(replace(claim_of(current, plans), learned=learned), stripe)


def owner_of_named(
    subscription_id: str | None,
    customer_id: str | None,
    *,
    stripe: StripeGateway,
    plans: Plans,
    says: tuple[str, dict[str, str]] | None = None,
    learned: ObjectId | None = None,
) -> ObjectId | None:
    """The organization of an object that names a subscription or a customer; None: not ours.

    `says` is the object's own id and metadata. Raises OwnerUnknown, OwnerDisputed and what the gateway raises, also
    StripeMissing: whose a subscription is that a lagging read does not show, nobody can say.
    """
    own = _marker(*says) if says else ()
    claim = Claim(subscription_id, customer_id, own, learned=learned)
    if _holder(claim) is None and subscription_id:
        claim = claim_of(stripe.subscription(subscription_id).value, plans)
        claim = replace(claim, markers=(*own, *claim.markers), learned=learned)
    return judge(claim, stripe)


def judge(claim: Claim, stripe: StripeGateway) -> ObjectId | None:
    """Whose it is by the rows, else by what it names. Raises OwnerUnknown, OwnerDisputed."""
    owner = _holder(claim)
    if owner is None:
        return _named_owner(claim, stripe)
    stored = claim.subscription and _row_of_subscription(claim.subscription)
    others = sorted(_rows_of_customer(claim.customer) - {owner})
    if others:
        raise OwnerDisputed("customer_shared", f"{claim.customer} is attached to {others[0]} too.", owner)
    for source, text in claim.markers:
        named = named_organization({MARKER: text})
        if named and named != owner:
            reason, held = (
                ("organization_conflict", claim.subscription) if stored else ("customer_shared", claim.customer)
            )
            raise OwnerDisputed(
                reason, f"{held} belongs to {owner}, the metadata of {source} names {named}.", owner, named
            )
    return owner


def _holder(claim: Claim) -> ObjectId | None:
    stored = _row_of_subscription(claim.subscription) if claim.subscription else None
    return stored or min(_rows_of_customer(claim.customer), default=None)


def _row_of_subscription(subscription_id: str) -> ObjectId | None:
    row = Subscription.objects(stripe_subscription_id=subscription_id).only("organization").first()
    return row.organization if row else None


def _rows_of_customer(customer_id: str | None) -> set[ObjectId]:
    if not customer_id:
        return set()
    either = Q(stripe_customer_id=customer_id) | Q(candidates__stripe_customer_id=customer_id)
    return {row.organization for row in Subscription.objects(either).only("organization")}


def _named_owner(claim: Claim, stripe: StripeGateway) -> ObjectId | None:
    what = claim.subscription or claim.customer
    markers = (*claim.markers, *(_customer_marker(claim.customer, stripe) if claim.customer else ()))
    if not markers:
        known = claim.learned or _settled_owner(claim.subscription)
        if known and exists(known):
            return known
        if not claim.priced:
            return None
        raise OwnerUnknown(f"{what} has a price of the plan file, and names no organization.")
    named = {}
    for source, text in markers:
        parsed = named_organization({MARKER: text})
        if parsed is None:
            raise OwnerUnknown(f"The metadata of {source} names {text!r}, which is no organization id.")
        named[parsed] = source
    first, *others = named
    if others:
        words = f"The metadata of {named[first]} names {first}, that of {named[others[0]]} names {others[0]}."
        raise OwnerDisputed("organization_conflict", words, first, others[0])
    if not exists(first):
        raise OwnerUnknown(f"{what} names the organization {first}, which is not known here yet.", first)
    return first


def known_owner(subscription_id: str | None, customer_id: str | None) -> ObjectId | None:
    """The organization whose row names the subscription, else the customer.

    Where to show an event, not what to do with it: `owner_of` decides, and sees disputes.
    """
    return known_owners([(subscription_id, customer_id)])[0]


def known_owners(named: Sequence[tuple[str | None, str | None]]) -> list[ObjectId | None]:
    """As `known_owner`, of several pairs of subscription and customer; one indexed read, two if a customer decides."""
    by_subscription = _owners_of_subscriptions({subscription for subscription, _ in named if subscription})
    left = {customer for subscription, customer in named if customer and subscription not in by_subscription}
    by_customer = _owners_of_customers(left)
    return [by_subscription.get(subscription) or by_customer.get(customer) for subscription, customer in named]


def _owners_of_subscriptions(ids: Collection[str]) -> dict[str | None, ObjectId]:
    if not ids:
        return {}
    # Past MongoEngine, whose query and documents cost several times the read, for each event that arrives.
    found = Subscription._get_collection().find(
        {"stripe_subscription_id": _among(ids)}, {"stripe_subscription_id": 1, "organization": 1}
    )
    return {row["stripe_subscription_id"]: row["organization"] for row in found}


def _owners_of_customers(ids: Collection[str]) -> dict[str | None, ObjectId]:
    """The organization whose customer it is; failing that one that has it as a candidate's."""
    if not ids:
        return {}
    either = [{"stripe_customer_id": _among(ids)}, {"candidates.stripe_customer_id": _among(ids)}]
    fields = {"stripe_customer_id": 1, "candidates.stripe_customer_id": 1, "organization": 1}
    candidates: dict[str | None, ObjectId] = {}
    own: dict[str | None, ObjectId] = {}
    for row in Subscription._get_collection().find({"$or": either}, fields).sort("organization", -1):
        candidates |= {each.get("stripe_customer_id"): row["organization"] for each in row.get("candidates", ())}
        own[row.get("stripe_customer_id")] = row["organization"]
    return {customer: owner for customer, owner in (candidates | own).items() if customer in ids}


def _among(ids: Collection[str]) -> Any:
    """Equality for one, which the planner knows without trying plans."""
    return next(iter(ids)) if len(ids) == 1 else {"$in": list(ids)}


def _settled_owner(subscription_id: str | None) -> ObjectId | None:
    """Whose the subscription was when an event of it was settled: it may be over, and nobody's row or candidate now."""
    if subscription_id is None:
        return None
    settled = WebhookEvent.objects(
        stripe_subscription_id=subscription_id, state="succeeded", outcome__in=("applied", "superseded")
    )
    newest = settled.order_by("-created").only("organization").first()
    return newest.organization if newest else None


def exists(org_id: ObjectId) -> bool:
    """Whether the SaaS has told us of the organization."""
    return Organization.objects(id=org_id).only("id").first() is not None


def wake_organization(org_id: ObjectId) -> int:
    """Make events due that waited for this organization to be known, or died of it; returns how many."""
    woken = ledger.wake_unknown(organization=org_id)
    if woken:
        log.info("events_woken", organization=str(org_id), count=woken)
    return woken


def wake_attached(
    org_id: ObjectId, *, subscriptions: Iterable[str | None] = (), customers: Iterable[str | None] = ()
) -> int:
    """Make events due that waited for somebody to say whose these are, and tell them; returns how many."""
    named = [{"stripe_subscription_id": each} for each in subscriptions if each]
    named += [{"stripe_customer_id": each} for each in customers if each]
    return sum(ledger.wake_unknown(learned=org_id, **each) for each in named)


def note_dispute(dispute: OwnerDisputed, *, customer: str | None, subscription: str | None) -> None:
    """Keep a finding of the two organizations that an event names, once while it is open."""
    fingerprint = ":".join((dispute.reason, str(dispute.organization), subscription or customer or ""))
    now = database_now()
    seen = {"set__last_seen_at": now, "inc__times_seen": 1}
    if Finding.objects(fingerprint=fingerprint, state__in=OPEN_STATES).update_one(**seen):
        return
    # Another worker may have noted it a moment ago.
    with contextlib.suppress(NotUniqueError):
        Finding(
            fingerprint=fingerprint,
            kind=dispute.reason,
            severity="high",
            organization=dispute.organization,
            stripe_customer_id=customer,
            stripe_subscription_ids=[subscription] if subscription else [],
            live={
                "metadata_names": str(dispute.named) if dispute.named else None,
                "explanation": str(dispute),
            },
            first_seen_at=now,
            last_seen_at=now,
            state="open",
        ).save(force_insert=True)


def live_subscription(subscription_id: str, stripe: StripeGateway) -> LiveSubscription | None:
    """The subscription as Stripe has it now, None if it has none."""
    try:
        return stripe.subscription(subscription_id).value
    except StripeMissing:
        return None


def _customer_marker(customer_id: str, stripe: StripeGateway) -> tuple[tuple[str, str], ...]:
    try:
        return _marker(customer_id, stripe.customer(customer_id).value.metadata)
    except StripeMissing:
        return ()


def _marker(source: str, metadata: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return ((source, metadata[MARKER]),) if metadata.get(MARKER) else ()
