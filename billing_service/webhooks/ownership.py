"""Whose event it is: the organization that a subscription belongs to, or why none can be named."""

import contextlib
import re
from functools import reduce
from operator import or_

from bson import ObjectId
from mongoengine import Q
from mongoengine.errors import NotUniqueError

from ..documents import Finding, Organization, Subscription, database_now
from ..documents.finding import OPEN_STATES
from ..errors import StripeMissing
from ..observability import log
from ..plans import Plans
from ..stripe_gateway import LiveSubscription, StripeGateway
from . import ledger

MARKER = "organizationId"
_ORGANIZATION_ID = re.compile(r"[0-9a-fA-F]{24}")


class OwnerUnknown(Exception):
    """Ours by its marker or its price, but of no organization that is known; it may become known."""

    def __init__(self, words: str, organization: ObjectId | None = None):
        super().__init__(words)
        self.organization = organization


class OwnerDisputed(Exception):
    """Two organizations are named; `reason` is organization_conflict or customer_shared."""

    def __init__(self, reason: str, words: str, organization: ObjectId):
        super().__init__(words)
        self.reason = reason
        self.organization = organization


def owner_of(sent: LiveSubscription, *, stripe: StripeGateway, plans: Plans) -> ObjectId | None:
    """The organization of a subscription as an event shows it; None: another product's, not ours.

    Raises OwnerUnknown, OwnerDisputed and what the gateway raises.
    """
    try:
        return _judge(sent, stripe, plans)
    except (OwnerUnknown, OwnerDisputed):
        # The payload is as old as its event; somebody may have corrected the metadata at Stripe since.
        current = _current(sent, stripe)
        if (current.customer, current.metadata) == (sent.customer, sent.metadata):
            raise
        return _judge(current, stripe, plans)


def _judge(subscription: LiveSubscription, stripe: StripeGateway, plans: Plans) -> ObjectId | None:
    stored = _row_of_subscription(subscription.id)
    holders = _rows_of_customer(subscription.customer)
    owner = stored or next(iter(sorted(holders)), None)
    if owner is None:
        return _named_owner(subscription, stripe, plans)
    others = sorted(holders - {owner})
    if others:
        raise OwnerDisputed("customer_shared", f"{subscription.customer} is attached to {others[0]} too.", owner)
    named = _parse(subscription.metadata.get(MARKER))
    if named and named != owner:
        reason, held = (
            ("organization_conflict", subscription.id) if stored else ("customer_shared", subscription.customer)
        )
        raise OwnerDisputed(
            reason, f"{held} belongs to {owner}, the metadata of {subscription.id} names {named}.", owner
        )
    return owner


def _row_of_subscription(subscription_id: str) -> ObjectId | None:
    row = Subscription.objects(stripe_subscription_id=subscription_id).only("organization").first()
    return row.organization if row else None


def _rows_of_customer(customer_id: str) -> set[ObjectId]:
    either = Q(stripe_customer_id=customer_id) | Q(candidates__stripe_customer_id=customer_id)
    return {row.organization for row in Subscription.objects(either).only("organization")}


def _named_owner(subscription: LiveSubscription, stripe: StripeGateway, plans: Plans) -> ObjectId | None:
    text = subscription.metadata.get(MARKER) or _customer_marker(subscription.customer, stripe)
    if not text:
        if plans.resolve(subscription.items).plan is None:
            return None
        raise OwnerUnknown(f"{subscription.id} has a price of the plan file, and names no organization.")
    named = _parse(text)
    if named is None:
        raise OwnerUnknown(f"The metadata of {subscription.id} names {text!r}, which is no organization id.")
    if not exists(named):
        raise OwnerUnknown(f"{subscription.id} names the organization {named}, which is not known here yet.", named)
    return named


def known_owner(subscription_id: str | None, customer_id: str | None) -> ObjectId | None:
    """The organization whose row names the subscription, else the customer; one indexed read.

    Where to show an event, not what to do with it: `owner_of` decides, and sees disputes.
    """
    places = []
    if subscription_id:
        places.append(Q(stripe_subscription_id=subscription_id))
    if customer_id:
        places += [Q(stripe_customer_id=customer_id), Q(candidates__stripe_customer_id=customer_id)]
    if not places:
        return None
    rows = Subscription.objects(reduce(or_, places)).only(
        "organization", "stripe_subscription_id", "stripe_customer_id"
    )

    def distance(row: Subscription) -> tuple:
        same = subscription_id is not None and row.stripe_subscription_id == subscription_id
        return (not same, row.stripe_customer_id != customer_id, row.organization)

    nearest = min(rows, key=distance, default=None)
    return nearest.organization if nearest else None


def exists(org_id: ObjectId) -> bool:
    """Whether the SaaS has told us of the organization."""
    return Organization.objects(id=org_id).only("id").first() is not None


def wake_organization(org_id: ObjectId) -> int:
    """Make events due that waited for this organization to be known, or died of it; returns how many."""
    woken = ledger.wake_unknown(organization=org_id)
    if woken:
        log.info("events_woken", organization=str(org_id), count=woken)
    return woken


def wake_attached(*, customer_id: str, subscription_id: str) -> int:
    """Make events due that waited for somebody to say whose customer this is; returns how many."""
    whose = {"stripe_customer_id": customer_id}, {"stripe_subscription_id": subscription_id}
    return sum(ledger.wake_unknown(**each) for each in whose)


def note_dispute(dispute: OwnerDisputed, subscription: LiveSubscription) -> None:
    """Keep a finding of the two organizations that an event names, once while it is open."""
    fingerprint = ":".join((dispute.reason, str(dispute.organization), subscription.id))
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
            stripe_customer_id=subscription.customer,
            stripe_subscription_ids=[subscription.id],
            live={"metadata_names": subscription.metadata.get(MARKER), "explanation": str(dispute)},
            first_seen_at=now,
            last_seen_at=now,
            state="open",
        ).save(force_insert=True)


def _customer_marker(customer_id: str, stripe: StripeGateway) -> str | None:
    try:
        return stripe.customer(customer_id).value.metadata.get(MARKER)
    except StripeMissing:
        return None


def _current(sent: LiveSubscription, stripe: StripeGateway) -> LiveSubscription:
    try:
        return stripe.subscription(sent.id).value
    except StripeMissing:
        return sent


def _parse(text: str | None) -> ObjectId | None:
    return ObjectId(text) if text and _ORGANIZATION_ID.fullmatch(text) else None
