"""Charges at Stripe: which one is meant, whose it is, what is left of it, and those of an organization."""

import base64
import json
from typing import Any

from bson import ObjectId
from mongoengine import Q

from ..documents import Subscription
from ..errors import ChargeUnknown, CustomerShared, InvalidRequest, StripeRejected
from ..stripe_gateway import LiveCharge, StripeGateway


def find_charge(charge_id: str, stripe: StripeGateway) -> LiveCharge:
    """The charge (ch_, py_), or the one that paid a payment intent (pi_). Raises ChargeUnknown, StripeMissing."""
    if not charge_id.startswith("pi_"):
        return stripe.charge(charge_id).value
    attempts = stripe.charges_of_payment(charge_id).value
    if not attempts:
        raise ChargeUnknown(f"Stripe shows no charge of {charge_id}, so there is nothing to refund.")
    return next((each for each in attempts if each.status == "succeeded"), attempts[0])


def owner_of(charge: LiveCharge) -> ObjectId:
    """The organization whose row or candidate has the charge's customer. Raises ChargeUnknown, CustomerShared."""
    customer = charge.customer
    if not customer:
        raise ChargeUnknown(f"{charge.id} has no customer at Stripe, so it is of no organization. Refund it there.")
    either = Q(stripe_customer_id=customer) | Q(candidates__stripe_customer_id=customer)
    rows = list(Subscription.objects(either).only("organization", "stripe_customer_id"))
    own = [row.organization for row in rows if row.stripe_customer_id == customer]
    named = own or [row.organization for row in rows]
    if not named:
        raise ChargeUnknown(
            f"{charge.id} is of customer {customer}, which belongs to no organization here. Nothing was refunded. "
            "If it is an organization's, link its subscription first."
        )
    if len(named) > 1:
        raise CustomerShared(
            f"{charge.id} is of customer {customer}, which {len(named)} organizations have. Nothing was refunded."
        )
    return named[0]


def amount_of(charge: LiveCharge, wanted: int | None) -> int:
    """What is to be refunded, in minor units; None: all that is left.

    If nothing is left it is the whole charge, which Stripe refuses in its own words.
    """
    return wanted or charge.amount_refundable or charge.amount


def refuse_excess(charge: LiveCharge, amount: int) -> None:
    """Raise what Stripe would answer to more than it shows as left. Whether it is disputed only Stripe tells."""
    left = charge.amount_refundable
    if charge.status != "succeeded":
        raise StripeRejected(f"Stripe would refuse this: {charge.id} is {charge.status}, no money came in.")
    if left <= 0:
        raise StripeRejected(f"Stripe would refuse this: {charge.id} has already been refunded.")
    if amount > left:
        raise StripeRejected(
            f"Stripe would refuse this: {amount} is more than the {left} (minor units, {charge.currency}) that are "
            f"left of {charge.id}.",
            param="amount",
        )


def list_charges(row: Subscription | None, *, stripe: StripeGateway, limit: int, cursor: str | None) -> dict[str, Any]:
    """A page of the charges of the organization's customers: the row's, then its candidates', each newest first.

    One request, and a second for the disputes of the newest disputed charge. Raises InvalidRequest for a cursor that
    is not ours, and what the gateway raises.
    """
    customers = _customers(row)
    customer, after = _read(cursor, customers) if cursor else (customers[0] if customers else None, None)
    items: list[dict[str, Any]] = []
    following = None
    if customer:
        page = stripe.charges_page(customer, limit=limit, starting_after=after).value
        items = _with_disputes(page["data"], stripe)
        following = _write(customer, items[-1]["id"]) if page["has_more"] and items else _next(customer, customers)
    return {"items": items, "limit": limit, "next_cursor": following, "total": None, "total_is_capped": False}


def _customers(row: Subscription | None) -> list[str]:
    if row is None:
        return []
    named = [row.stripe_customer_id, *(each.stripe_customer_id for each in row.candidates)]
    return list(dict.fromkeys(each for each in named if each))


def _with_disputes(charges: tuple[LiveCharge, ...], stripe: StripeGateway) -> list[dict[str, Any]]:
    """Of disputed charges other than the newest nobody knows without a request for each: None."""
    newest = next((each.id for each in charges if each.disputed), None)
    disputes = stripe.disputes_of(newest).value if newest else ()
    known = {each.id: disputes if each.id == newest else None if each.disputed else () for each in charges}
    return [vars(each) | {"disputes": known[each.id]} for each in charges]


def _next(customer: str, customers: list[str]) -> str | None:
    later = customers[customers.index(customer) + 1 :]
    return _write(later[0], None) if later else None


def _write(customer: str, after: str | None) -> str:
    return base64.urlsafe_b64encode(json.dumps([customer, after]).encode()).decode()


def _read(cursor: str, customers: list[str]) -> tuple[str, str | None]:
    try:
        customer, after = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        if customer in customers and (after is None or isinstance(after, str)) and _write(customer, after) == cursor:
            return customer, after
    except (ValueError, TypeError, RecursionError):
        pass
    raise InvalidRequest("The cursor is not one that this service gave.", errors={"cursor": ["unknown"]})
