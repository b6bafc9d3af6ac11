"""The terms of a subscription as a request asks for them: items, trial, cancel intent, pause. Nothing is saved here."""

from __future__ import annotations

from .lifecycle import period, period_from, with_period
from .metadata import cleared, merged
from .periods import end_after
from .problems import invalid, missing, not_imitated, required
from .shapes import item_shape, plan_of

MOST_ITEMS = 20


def usable_price(books, price_id, param):
    price = books.require("price", price_id, param, 400)
    if not price["active"]:
        raise invalid("The price specified is inactive. This field only accepts active prices.", param)
    if not price["recurring"]:
        raise invalid(
            "The price specified is set to `type=one_time` but this field only accepts prices with `type=recurring`.",
            param,
        )
    return price


def first_items(books, subscription: dict, wishes: list) -> dict:
    if not wishes:
        raise required("items")
    if len(wishes) > MOST_ITEMS:
        raise invalid(f"You can only have up to {MOST_ITEMS} items on a subscription.", "items")
    data = []
    for position, wish in enumerate(wishes):
        data.append(new_item(books, subscription, wish, position))
    currencies = {item["price"]["currency"] for item in data}
    intervals = {(item["plan"]["interval"], item["plan"]["interval_count"]) for item in data}
    if len(currencies) > 1 or len(intervals) > 1:
        what = "currency" if len(currencies) > 1 else "interval"
        raise invalid(f"All prices on a subscription must have the same `{what}`.", "items")
    return subscription | {"currency": currencies.pop(), "items": subscription["items"] | {"data": data}}


def new_item(books, subscription, wish, position):
    if "price" not in wish:
        raise required(f"items[{position}][price]")
    price = usable_price(books, wish["price"], f"items[{position}][price]")
    return changed_item(item_shape(books.now(), subscription["id"], price, 0, 0), wish)


def changed_item(item, wish):
    answer = item | ({"quantity": wish["quantity"]} if "quantity" in wish else {})
    if "metadata" in wish:
        answer["metadata"] = merged(item["metadata"], wish["metadata"])
    return answer


def changed_items(books, subscription: dict, wishes: list) -> dict:
    """Items by id: another price or quantity, or deleted; an item without id is added."""
    data = {item["id"]: item for item in subscription["items"]["data"]}
    start, end = period(subscription)
    for position, wish in enumerate(wishes):
        name = f"items[{position}]"
        if "id" not in wish:
            item = new_item(books, subscription, wish, position)
            data[item["id"]] = item | {"current_period_start": start, "current_period_end": end}
            continue
        if wish["id"] not in data:
            raise missing("subscription_item", wish["id"], f"{name}[id]", 400)
        if wish.get("deleted"):
            del data[wish["id"]]
            continue
        item = changed_item(data[wish["id"]], wish)
        if "price" in wish:
            price = usable_price(books, wish["price"], f"{name}[price]")
            item |= {"price": price, "plan": plan_of(price)}
        data[item["id"]] = item
    if not data:
        raise invalid("A subscription must have at least one active plan.", "items")
    return subscription | {"items": subscription["items"] | {"data": list(data.values())}}


def reanchored(books, before: dict, subscription: dict) -> tuple[dict, bool]:
    """Another billing interval starts a new period at once, to be billed now."""
    was, now = (sub["items"]["data"][0]["price"]["recurring"] for sub in (before, subscription))
    if (was["interval"], was["interval_count"]) == (now["interval"], now["interval_count"]):
        return subscription, False
    anchored = subscription | {"billing_cycle_anchor": books.now()}
    return with_period(anchored, *period_from(anchored, books.now())), True


def trial(books, subscription: dict, params: dict) -> dict:
    """`trial_end` (a time or `now`) or `trial_period_days`."""
    now = books.now()
    end = params.get("trial_end")
    if end is not None and params.get("trial_period_days") is not None:
        raise invalid(
            "You may only specify one of these parameters: trial_end, trial_period_days.",
            "trial_end",
            "parameters_exclusive",
        )
    if end is None and params.get("trial_period_days"):
        end = now + params["trial_period_days"] * 86400
    if end is None or end == "now":
        return subscription
    if end <= now:
        raise invalid("Invalid timestamp: must be an integer Unix timestamp in the future.", "trial_end")
    trialing = subscription | {
        "status": "trialing",
        "trial_start": subscription["trial_start"] or now,
        "trial_end": end,
        "billing_cycle_anchor": end,
    }
    start = period(subscription)[0] if subscription["status"] == "trialing" else now
    return with_period(trialing, start, end)


def first_period(books, subscription: dict, params: dict) -> dict:
    now = books.now()
    anchor = params.get("billing_cycle_anchor", now)
    if anchor < now:
        raise invalid("Invalid timestamp: `billing_cycle_anchor` must be in the future.", "billing_cycle_anchor")
    anchored = subscription | {"billing_cycle_anchor": anchor, "start_date": params.get("backdate_start_date", now)}
    recurring = anchored["items"]["data"][0]["price"]["recurring"]
    return trial(books, with_period(anchored, now, end_after(anchor, recurring, now)), params)


def cancel_intent(books, subscription: dict, params: dict) -> dict:
    """`cancel_at_period_end` and `cancel_at` are one intent: setting one replaces the other."""
    wanted = {name: params[name] for name in ("cancel_at", "cancel_at_period_end") if name in params}
    if not wanted:
        return subscription
    if len(wanted) == 2 and wanted["cancel_at"] != "" and wanted["cancel_at_period_end"]:
        raise invalid(
            "You may only specify one of these parameters: cancel_at, cancel_at_period_end.",
            "cancel_at",
            "parameters_exclusive",
        )
    end = intended_end(books, subscription, wanted)
    if end is None:
        if "cancel_at_period_end" in wanted and not subscription["cancel_at_period_end"] and "cancel_at" not in wanted:
            return subscription
        reason = subscription["cancellation_details"] | {"reason": None}
        return subscription | {
            "cancel_at": None,
            "cancel_at_period_end": False,
            "canceled_at": None,
            "cancellation_details": reason,
        }
    reason = subscription["cancellation_details"] | {"reason": "cancellation_requested"}
    same = subscription["cancel_at"] == end and subscription["canceled_at"]
    return subscription | {
        "cancel_at": end,
        "cancel_at_period_end": bool(wanted.get("cancel_at_period_end")),
        "canceled_at": subscription["canceled_at"] if same else books.now(),
        "cancellation_details": reason,
    }


def intended_end(books, subscription, wanted) -> int | None:
    if wanted.get("cancel_at_period_end"):
        return period(subscription)[1]
    moment = wanted.get("cancel_at")
    if moment in ("min_period_end", "max_period_end"):
        return period(subscription)[1]
    if moment in (None, ""):
        return None
    if moment <= books.now():
        raise invalid("Invalid timestamp: `cancel_at` must be in the future.", "cancel_at")
    return moment


def details(subscription: dict, params: dict) -> dict:
    """Everything that is simply written down."""
    simple = ("collection_method", "days_until_due", "default_payment_method", "description", "pause_collection")
    given = cleared({name: params[name] for name in simple if name in params})
    if given.get("pause_collection"):
        given["pause_collection"] = {"resumes_at": None} | given["pause_collection"]
    method = given.get("default_payment_method")
    if method and not method.startswith("pm_"):
        raise missing("PaymentMethod", method, "default_payment_method", 400)
    if "metadata" in params:
        given["metadata"] = merged(subscription["metadata"], params["metadata"])
    if params.get("trial_settings"):
        given["trial_settings"] = params["trial_settings"]
    if "cancellation_details" in params:
        given["cancellation_details"] = told(subscription, params)
    if params.get("proration_behavior") == "always_invoice":
        raise not_imitated("prorations: proration_behavior=always_invoice")
    return subscription | given


def told(subscription, params) -> dict:
    return subscription["cancellation_details"] | cleared(params.get("cancellation_details") or {})
