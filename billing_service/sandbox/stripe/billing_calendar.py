"""The billing calendar: whatever is due by now, in the order in which it became due, stamped with that time."""

from __future__ import annotations

import orjson

from . import checkout, invoicing, lifecycle
from .books import Books

MOST_STEPS = 100_000


class BillingCalendar:
    def __init__(self, sandbox):
        self.sandbox = sandbox

    def run(self) -> int:
        """All that is due; the number of things done. One transaction, so that nobody sees half of a day."""
        store, done = self.sandbox.store, 0
        if not self.due(int(self.sandbox.clock.exact())):
            return 0
        with store.transaction():
            until = int(self.sandbox.clock.exact())
            row = self.due(until)
            while row and done < MOST_STEPS:
                self.step(row)
                done += 1
                row = self.due(until)
        self.sandbox.deliveries.wake()
        return done

    def due(self, until: int):
        return self.sandbox.store.one(
            "SELECT * FROM objects WHERE due_at IS NOT NULL AND due_at <= ? ORDER BY due_at, seq LIMIT 1", (until,)
        )

    def step(self, row):
        books = Books(self.sandbox, row["account"])
        subject = orjson.loads(row["body"])
        with self.sandbox.clock.held(row["due_at"]):
            if row["kind"] == "invoice":
                invoice_due(books, subject)
            elif row["kind"] == "checkout.session":
                checkout.expire(books, subject)
            else:
                subscription_due(books, subject)
            after = self.sandbox.store.read(row["account"], row["id"])
            # Whatever did not move on would be due for ever.
            if after and after["due_at"] == row["due_at"] and after["body"] == row["body"]:
                books.save(subject, due_at=None)


def invoice_due(books, invoice):
    if invoice["status"] == "draft":
        invoice = invoicing.finalize(books, invoice)
    if invoice["collection_method"] == "send_invoice" and invoice["amount_remaining"]:
        return
    method = None
    subscription_id = invoice["parent"]["subscription_details"]["subscription"]
    subscription = books.find("subscription", subscription_id)
    if subscription:
        method = subscription["default_payment_method"]
    invoice, error = invoicing.collect(books, invoice, method)
    lifecycle.collected(books, invoice, error)


def subscription_due(books, subscription):
    now = books.now()
    pause = subscription["pause_collection"] or {}
    if subscription["status"] == "incomplete":
        lifecycle.expire(books, subscription)
    elif subscription["cancel_at"] is not None and subscription["cancel_at"] <= now:
        lifecycle.cancel(books, subscription, at_period_end=True)
    elif subscription["status"] == "trialing" and now < subscription["trial_end"]:
        books.emit("customer.subscription.trial_will_end", subscription)
        books.save(subscription, due_at=lifecycle.next_due(books, subscription))
    elif subscription["status"] == "trialing":
        lifecycle.end_trial(books, subscription)
    elif pause.get("resumes_at") and pause["resumes_at"] <= now:
        lifecycle.save(books, subscription | {"pause_collection": None})
    else:
        lifecycle.renew(books, subscription)
