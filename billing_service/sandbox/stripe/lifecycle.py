"""What happens to a subscription: it is paid for, renewed, ended. Every change is saved with its event and with the
time at which the billing calendar has to look again."""

from __future__ import annotations

from . import invoicing, payments
from .periods import end_after
from .problems import Problem

INCOMPLETE_SECONDS = 23 * 3600
WARNING_SECONDS = 3 * 86400
ENDED = ("canceled", "incomplete_expired")


def live_subscriptions(books, customer_id: str) -> list[dict]:
    found = books.query(
        "subscription", "customer = ? AND status NOT IN ('canceled', 'incomplete_expired')", (customer_id,)
    )
    seeded = books.sandbox.seeds.locate(books.account, customer_id)
    if seeded:
        twin = books.find("subscription", seeded[0].id("subscription", seeded[2]))
        if twin and twin["status"] not in ENDED and twin["id"] not in {one["id"] for one in found}:
            found.append(twin)
    return found


def period(subscription: dict) -> tuple[int, int]:
    items = subscription["items"]["data"]
    return (min(item["current_period_start"] for item in items), min(item["current_period_end"] for item in items))


def with_period(subscription: dict, start: int, end: int) -> dict:
    items = [
        item | {"current_period_start": start, "current_period_end": end} for item in subscription["items"]["data"]
    ]
    return subscription | {"items": subscription["items"] | {"data": items}}


def period_from(subscription: dict, start: int) -> tuple[int, int]:
    recurring = subscription["items"]["data"][0]["price"]["recurring"]
    return start, end_after(subscription["billing_cycle_anchor"], recurring, start)


def next_due(books, subscription: dict) -> int | None:
    """When something happens by itself. A seeded subscription is never renewed, only ended when it was changed so."""
    status, now = subscription["status"], books.now()
    if status in ENDED:
        return None
    if status == "incomplete":
        return subscription["created"] + INCOMPLETE_SECONDS
    times = [subscription["cancel_at"]]
    if not books.sandbox.seeds.locate(books.account, subscription["id"]) and status != "paused":
        times.append(period(subscription)[1])
        if status == "trialing":
            warning = subscription["trial_end"] - WARNING_SECONDS
            times += [subscription["trial_end"], warning if warning > now else None]
        times.append((subscription["pause_collection"] or {}).get("resumes_at"))
    return min((moment for moment in times if moment is not None), default=None)


def save(books, subscription: dict, event: str | None = "customer.subscription.updated") -> dict:
    return books.change(subscription, event, due_at=next_due(books, subscription))


def cancel(books, subscription: dict, reason="cancellation_requested", details=None, at_period_end=False) -> dict:
    """Ends it now. Open invoices are no longer collected. One that never began expires instead."""
    told = subscription["cancellation_details"] | {"reason": reason} | (details or {})
    canceled_at = subscription["canceled_at"] if at_period_end and subscription["canceled_at"] else books.now()
    ended = subscription | {"canceled_at": canceled_at, "cancellation_details": told}
    if not at_period_end:
        ended |= {"cancel_at_period_end": False, "cancel_at": None}
    if ended["status"] == "incomplete":
        return expire(books, ended)
    ended |= {"status": "canceled", "ended_at": books.now()}
    books.save(ended, due_at=None)
    books.emit("customer.subscription.deleted", ended)
    invoicing.stop_collecting(books, ended["id"])
    end_schedule(books, ended)
    return ended


def end_schedule(books, subscription: dict):
    schedule = books.find("subscription_schedule", subscription["schedule"]) if subscription["schedule"] else None
    if schedule and schedule["status"] in ("active", "not_started"):
        canceled = {"status": "canceled", "canceled_at": books.now(), "current_phase": None}
        books.change(schedule | canceled, "subscription_schedule.canceled")


def expire(books, subscription: dict) -> dict:
    """The first invoice was not paid within 23 hours, or the subscription was cancelled before it was."""
    for invoice in invoicing.open_invoices(books, subscription["id"]):
        invoicing.void(books, invoice)
    return save(books, subscription | {"status": "incomplete_expired", "ended_at": books.now()})


def renew(books, subscription: dict):
    """The next period begins; its invoice stays a draft for an hour."""
    settings = books.sandbox.settings
    start, end = period_from(subscription, period(subscription)[1])
    pause = subscription["pause_collection"]
    unpaid = subscription["status"] == "unpaid"
    finalize_at = None if unpaid or pause else books.now() + settings.draft_seconds
    renewed = with_period(subscription, start, end)
    invoice = invoicing.draft(books, renewed, "subscription_cycle", (start, end), finalize_at)
    if pause or unpaid:
        held_back(books, invoice, pause["behavior"] if pause else "keep_as_draft")
    if subscription["status"] == "trialing":
        renewed["status"] = "active"
    save(books, renewed | {"latest_invoice": invoice["id"]})


def held_back(books, invoice, behavior):
    if behavior == "keep_as_draft":
        books.change(invoice | {"auto_advance": False}, due_at=None)
    else:
        status = "void" if behavior == "void" else "uncollectible"
        invoicing.void(books, invoicing.finalize(books, invoice), status)


def end_trial(books, subscription: dict):
    """Without a payment method and with that setting, the subscription pauses; else it is billed."""
    behavior = subscription["trial_settings"]["end_behavior"]["missing_payment_method"]
    if behavior != "create_invoice" and not has_payment_method(books, subscription):
        if behavior == "cancel":
            cancel(books, subscription)
        else:
            save(books, subscription | {"status": "paused"}, "customer.subscription.paused")
        return
    anchored = subscription | {"billing_cycle_anchor": subscription["trial_end"]}
    renew(books, anchored)


def has_payment_method(books, subscription) -> bool:
    customer = books.require("customer", subscription["customer"])
    return payments.outcome(books, customer, subscription["default_payment_method"])[0] != "none"


def collected(books, invoice: dict, error: dict | None):
    """An attempt at an invoice was made: what its subscription becomes."""
    subscription_id = ((invoice["parent"] or {}).get("subscription_details") or {}).get("subscription")
    subscription = books.find("subscription", subscription_id) if subscription_id else None
    if not subscription or subscription["status"] in ENDED:
        return
    if error:
        delinquent(books, invoice["customer"], True)
        unpaid_by(books, subscription, invoice)
        return
    if not books.query(
        "invoice", "customer = ? AND status = 'open' AND json_extract(body, '$.attempted')", (invoice["customer"],)
    ):
        delinquent(books, invoice["customer"], False)
    if invoice["id"] == subscription["latest_invoice"]:
        if subscription["status"] == "paused":
            save(books, subscription | {"status": "active"}, "customer.subscription.resumed")
        elif subscription["status"] in ("incomplete", "past_due", "unpaid"):
            save(books, subscription | {"status": "active"})


def unpaid_by(books, subscription, invoice):
    if invoice["billing_reason"] == "subscription_create" or subscription["status"] in ("paused", "incomplete"):
        return
    final = books.sandbox.settings.dunning_final
    if invoice["next_payment_attempt"] is not None or final == "past_due":
        if subscription["status"] == "active":
            save(books, subscription | {"status": "past_due"})
    elif final == "unpaid":
        save(books, subscription | {"status": "unpaid"})
    else:
        cancel(books, subscription, "payment_failed")


def delinquent(books, customer_id, value):
    customer = books.require("customer", customer_id)
    if not customer.get("deleted"):
        books.change(customer | {"delinquent": value}, "customer.updated")


def begin(books, wanted: dict, behavior="allow_incomplete", result=None) -> dict:
    """A new subscription with its first invoice. Its created event shows the status after the first attempt."""
    books.save(wanted, due_at=next_due(books, wanted))
    trialing = wanted["status"] == "trialing"
    attempt = behavior != "default_incomplete"
    billed, error = bill_now(books, wanted, "subscription_create", free=trialing, attempt=attempt, result=result)
    if error and behavior == "error_if_incomplete":
        raise Problem(402, **error)
    unpaid = error or (not attempt and books.find("invoice", billed["latest_invoice"])["status"] != "paid")
    if unpaid and billed["collection_method"] == "charge_automatically":
        billed["status"] = "incomplete"
    books.save(billed, due_at=next_due(books, billed))
    books.emit("customer.subscription.created", billed)
    if trialing and billed["trial_end"] - books.now() < WARNING_SECONDS:
        books.emit("customer.subscription.trial_will_end", billed)
    return billed


def resolved(books, invoice: dict, error: dict | None):
    """The delayed payment of a first invoice has ended; when it failed the running subscription is past due."""
    if error:
        invoice = invoicing.retry_later(books, invoice)
    else:
        payments.allot(books, invoice)
        invoice = invoicing.settled(books, invoice)
    collected(books, invoice, error)
    subscription = books.find("subscription", invoice["parent"]["subscription_details"]["subscription"])
    if error and subscription and subscription["status"] == "active":
        save(books, subscription | {"status": "past_due"})


def bill_now(books, subscription: dict, reason: str, free=False, attempt=True, result=None) -> tuple[dict, dict | None]:
    """Draft, finalize and collect at once, as for a first invoice; (subscription with its invoice, card error)."""
    invoice = invoicing.draft(books, subscription, reason, period(subscription), free=free)
    subscription = subscription | {"latest_invoice": invoice["id"]}
    books.save(subscription)
    if subscription["collection_method"] == "send_invoice" and not free:
        books.change(invoice, due_at=books.now() + books.sandbox.settings.draft_seconds)
        return subscription, None
    invoice = invoicing.finalize(books, invoice)
    if not attempt and invoice["amount_due"]:
        return subscription, None
    invoice, error = invoicing.collect(books, invoice, subscription["default_payment_method"], result)
    if error:
        delinquent(books, subscription["customer"], True)
    return subscription, error
