"""Whose a subscription of Stripe's list is: by the rows here, else by what it and its customer name."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from bson import ObjectId
from pymongo import UpdateMany

from ..documents import ImportItem, Organization
from ..scans import Stop
from ..stripe_gateway import LiveCustomer, LiveSubscription
from ..subscriptions import MARKER, named_organization
from ..webhooks.ownership import known_owners
from .holding import Desk, Hold

PAGE = 5_000
# Of nobody by itself; what the customer's others name decides.
NAMELESS = ("organization_missing", "foreign")


@dataclass(frozen=True)
class Listed:
    """A subscription as it was listed, with its customer."""

    subscription: LiveSubscription
    customer: LiveCustomer

    @property
    def named(self) -> list[str]:
        """What the two name, as it stands there."""
        told = (self.subscription.metadata.get(MARKER), self.customer.metadata.get(MARKER))
        return [text for text in told if text]


@dataclass(frozen=True)
class Owner:
    """The organization, or the reason why there is none. An unknown one is named all the same."""

    organization: ObjectId | None = None
    reason: str | None = None
    detail: str | None = None


def owners_of(listed: Sequence[Listed], desk: Desk) -> list[Owner]:
    """Whose each is, judged by itself; a few reads for all."""
    rows = known_owners([(each.subscription.id, None) for each in listed])
    customers = known_owners([(None, each.subscription.customer) for each in listed])
    named = [_named(each, desk) for each in listed]
    told = {owner.organization for owner in named if owner.organization}
    known = set(Organization.objects(id__in=list(told)).scalar("id")) if told else set()
    return [_judged(*each, known) for each in zip(rows, customers, named, strict=True)]


def _named(each: Listed, desk: Desk) -> Owner:
    if not each.named:
        priced = desk.plans.resolve(each.subscription.items).plan is not None
        return Owner(reason="organization_missing" if priced else "foreign")
    parsed = {text: named_organization({MARKER: text}) for text in each.named}
    wrong = [text for text, org_id in parsed.items() if org_id is None]
    if wrong:
        return Owner(reason="organization_invalid", detail=f"metadata name {wrong[0]!r}")
    first, *others = dict.fromkeys(parsed.values())
    if others:
        return Owner(reason="organization_conflict", detail=f"subscription: {first}, customer: {others[0]}")
    return Owner(first)


def _judged(of_row: ObjectId | None, of_customer: ObjectId | None, named: Owner, known: set[Any]) -> Owner:
    """The rows here decide; who names another organization than they do is in conflict with them."""
    holder = of_row or of_customer
    if holder is not None and named.reason in (None, "organization_invalid", *NAMELESS):
        if named.organization in (None, holder):
            return Owner(holder)
        reason = "organization_conflict" if of_row else "customer_shared"
        return Owner(None, reason, f"here: {holder}, at Stripe: {named.organization}")
    if named.organization and named.organization not in known:
        return Owner(named.organization, "organization_unknown", f"names {named.organization}")
    return named


def make_out_customers(hold: Hold, stop: Stop) -> None:
    """Go through the customers with several subscriptions: what does not say whose it is is its customer's, and a
    customer of two organizations is nobody's.
    """
    items = ImportItem._get_collection()
    fields = {"_id": 0, "stripe_customer_id": 1, "organization": 1}
    more = True
    while more:
        wanted = {"run": hold.run.pk, "stripe_customer_id": {"$gt": hold.run.place or ""}}
        page = list(items.find(wanted, fields).hint("run_customer").sort("stripe_customer_id", 1).limit(PAGE))
        more = len(page) == PAGE
        groups = _groups(page)
        if more and len(groups) > 1:
            groups.popitem()  # there may be more of the last one on the next page
        elif more:
            groups = {customer: {None, ObjectId()} for customer in groups}  # it fills the page: its items are asked
        mixed = [customer for customer, told in groups.items() if len(told) > 1]
        writes = [write for customer in mixed for write in _made_out(hold.run.pk, customer)]
        place = next(reversed(groups), hold.run.place)
        hold.commit(partial(_write, writes), sets={"place": place})
        hold.pulse()
    hold.enter("organizations")


def _write(writes: list[UpdateMany]) -> None:
    if writes:
        ImportItem._get_collection().bulk_write(writes)


def _groups(page: Sequence[dict[str, Any]]) -> dict[str, set[Any]]:
    groups: dict[str, set[Any]] = {}
    for each in page:
        groups.setdefault(each["stripe_customer_id"], set()).add(each.get("organization"))
    return groups


def _made_out(run_id: ObjectId, customer: str) -> list[UpdateMany]:
    """What becomes of a customer's subscriptions that do not all say the same."""
    items = ImportItem._get_collection()
    whole = {"run": run_id, "stripe_customer_id": customer}
    named = sorted(each for each in items.distinct("organization", whole) if each)
    nameless = {"state": "unmapped", "reason": {"$in": list(NAMELESS)}}
    if len(named) > 1:
        both = {"$or": [{"state": "pending"}, nameless, {"reason": "organization_unknown"}]}
        told = f"{customer} is named by {', '.join(map(str, named[:5]))}"
        fields = {"state": "unmapped", "reason": "customer_shared", "detail": told, "organization": None}
        return [UpdateMany(whole | both, {"$set": fields})]
    if not named:
        return []
    known = items.find_one(whole | {"organization": named[0], "state": "pending"}, {"_id": 1})
    if known:
        update = {"$set": {"organization": named[0], "state": "pending"}, "$unset": {"reason": "", "detail": ""}}
        return [UpdateMany(whole | nameless, update)]
    fields = {"organization": named[0], "reason": "organization_unknown", "detail": f"its customer's is {named[0]}"}
    return [UpdateMany(whole | nameless, {"$set": fields})]
