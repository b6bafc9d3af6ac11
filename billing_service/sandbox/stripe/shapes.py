"""New objects in the shape of the current API version, every key present: shapes.json has what is the same in all of
them, the functions here what differs. Older shapes are made in versions.py."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import orjson

from .ids import new_id

SHAPES = {
    kind: orjson.dumps(shape)
    for kind, shape in orjson.loads(files(__package__).joinpath("shapes.json").read_bytes()).items()
}
NO_ADDRESS: dict[str, Any] = dict.fromkeys(("city", "country", "line1", "line2", "postal_code", "state"))


def fresh(kind: str, **values) -> dict:
    """A copy of the kind's shape with these values."""
    return orjson.loads(SHAPES[kind]) | values


def listed(data: list, url: str) -> dict:
    return {"object": "list", "data": data, "has_more": False, "url": url}


def account_shape(account: str, now: int, name: str) -> dict:
    body = fresh("account", id=account, created=now)
    body["business_profile"]["name"] = body["settings"]["dashboard"]["display_name"] = name
    body["external_accounts"]["url"] = f"/v1/accounts/{account}/external_accounts"
    return body


def customer_shape(now: int, customer_id: str | None = None) -> dict:
    customer_id = customer_id or new_id("customer")
    return fresh("customer", id=customer_id, created=now, invoice_prefix=customer_id[-8:].upper())


def product_shape(now: int, name: str) -> dict:
    return fresh("product", id=new_id("product"), created=now, updated=now, name=name)


def price_shape(now: int, product: str, currency: str, amount: int | None, recurring: dict | None) -> dict:
    price = fresh("price", id=new_id("price"), created=now, product=product, currency=currency, unit_amount=amount)
    price["unit_amount_decimal"] = None if amount is None else str(amount)
    price["recurring"] = price["recurring"] | recurring if recurring else None
    price["type"] = "recurring" if recurring else "one_time"
    return price


def plan_of(price: dict) -> dict:
    """The legacy plan object that Stripe derives from a recurring price."""
    same = ("id", "active", "billing_scheme", "created", "currency", "livemode", "metadata", "nickname", "product")
    recurring = price["recurring"]
    return {name: price[name] for name in same} | {
        "object": "plan",
        "amount": price["unit_amount"],
        "amount_decimal": price["unit_amount_decimal"],
        "interval": recurring["interval"],
        "interval_count": recurring["interval_count"],
        "meter": None,
        "tiers_mode": None,
        "transform_usage": None,
        "trial_period_days": recurring["trial_period_days"],
        "usage_type": recurring["usage_type"],
    }


def item_shape(now: int, subscription: str, price: dict, start: Any, end: Any, item_id: str | None = None) -> dict:
    return fresh(
        "subscription_item",
        id=item_id or new_id("subscription_item"),
        created=now,
        current_period_start=start,
        current_period_end=end,
        plan=plan_of(price),
        price=price,
        subscription=subscription,
    )


def subscription_shape(now: int, customer: str, subscription_id: str | None = None) -> dict:
    subscription_id = subscription_id or new_id("subscription")
    body = fresh("subscription", id=subscription_id, customer=customer)
    body["items"]["url"] = f"/v1/subscription_items?subscription={subscription_id}"
    return body | dict.fromkeys(("billing_cycle_anchor", "created", "start_date"), now)


def endpoint_shape(now: int, url: str, enabled_events: list) -> dict:
    return fresh("webhook_endpoint", id=new_id("webhook_endpoint"), created=now, url=url, enabled_events=enabled_events)


def event_shape(now: int, type: str, subject: dict, api_version: str, request: dict) -> dict:
    return {
        "id": new_id("event"),
        "object": "event",
        "api_version": api_version,
        "created": now,
        "data": {"object": subject},
        "livemode": False,
        "pending_webhooks": 0,
        "request": request,
        "type": type,
    }
