"""What the database knows beside a row: the organizations' plans, and whose a subscription without a row is."""

from collections.abc import Iterable, Sequence
from typing import Any

from bson import ObjectId

from ..documents import Organization, Subscription
from ..stripe_gateway import LiveSubscription
from ..subscriptions.observation import named_organization
from ..subscriptions.statuses import LIVE
from ..subscriptions.stored_row import PROJECTION, StoredRow
from .diagnosis import diagnose
from .holding import Desk, Suspect
from .picture import Divergence, Picture, live_evidence

# To judge these again Stripe need not be asked.
OUR_SIDE = frozenset({"org_plan", "overridden"})


def plans_of(organizations: Iterable[ObjectId]) -> dict[Any, str | None]:
    """The plans of the organizations that are known here; one read."""
    wanted = list(set(organizations))
    if not wanted:
        return {}
    found = Organization._get_collection().find({"_id": {"$in": wanted}}, {"plan": 1})
    return {each["_id"]: each.get("plan") for each in found}


def suspect_of(org_id: ObjectId | None, subscriptions: tuple[str, ...], found: Iterable[Divergence]) -> Suspect:
    """A suspect, with what was seen of what does not fit."""
    return Suspect(org_id, subscriptions, frozenset().union(*(each.evidence for each in found)))


def owners_of(found: Sequence[LiveSubscription], desk: Desk) -> tuple[list[Suspect], int]:
    """Whose the live subscriptions are that no row names: suspects, and how many are another product's.

    Ours is what has a customer of a row, names an organization, or has a price of the plan file.
    """
    live = [each for each in found if each.status in LIVE]
    rows = rows_of(live)
    suspects, foreign = [], 0
    for each in live:
        row = rows.get(each.customer) or rows.get(named_organization(each.metadata))
        org_id = row.organization if row else named_organization(each.metadata)
        if org_id is None and desk.plans.resolve(each.items).plan is None:
            foreign += 1
            continue
        picture = Picture(org_id, row, found=(each,))
        suspect = suspect_of(org_id, (each.id,), diagnose(picture, desk.plans, desk.clock()))
        suspects.append(Suspect(org_id, (each.id,), suspect.evidence | {live_evidence(each.id)}))
    return suspects, foreign


def rows_of(found: Sequence[LiveSubscription]) -> dict[Any, StoredRow]:
    """The rows that a subscription may belong to, by customer, be it a candidate's, and by the organization named."""
    if not found:
        return {}
    rows = Subscription._get_collection()
    customers = [each.customer for each in found]
    named = [each for each in (named_organization(one.metadata) for one in found) if each]
    by_key: dict[Any, StoredRow] = {}
    for raw in rows.find({"candidates.stripe_customer_id": {"$in": customers}}, PROJECTION):
        known = {each.get("stripe_customer_id") for each in raw["candidates"]} & set(customers)
        by_key |= dict.fromkeys(known, StoredRow(raw))
    by_key |= {
        raw["stripe_customer_id"]: StoredRow(raw)
        for raw in rows.find({"stripe_customer_id": {"$in": customers}}, PROJECTION)
    }
    return by_key | {
        raw["organization"]: StoredRow(raw) for raw in rows.find({"organization": {"$in": named}}, PROJECTION)
    }
