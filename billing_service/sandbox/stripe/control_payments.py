"""The control plane's buyers and banks: a checkout is paid, a refund drags or fails, a charge is disputed."""

from __future__ import annotations

from . import checkout, disputes, refunds
from .control_routes import books_of, control


def told(given, *names) -> dict:
    """The named values; any other one is a mistake."""
    unknown = set(given) - {*names, "account"}
    if unknown:
        raise ValueError(f"unknown: {', '.join(sorted(unknown))}")
    return {name: given[name] for name in names if name in given}


def changed(sandbox, given, kind, object_id, function, **values):
    """`function(books, object, **values)` in one transaction."""
    books = books_of(sandbox, given)
    with sandbox.store.transaction():
        answer = function(books, books.require(kind, object_id), **values)
    sandbox.deliveries.wake()
    return answer


@control("POST", "/checkout/sessions/{session}/complete")
def complete(sandbox, given, session):
    values = told(given, "outcome", "email", "name", "code")
    return changed(sandbox, given, "checkout.session", session, checkout.complete, **values)


@control("POST", "/checkout/sessions/{session}/settle")
def settle(sandbox, given, session):
    values = {"outcome": given["outcome"]} | told(given, "outcome", "code")
    return changed(sandbox, given, "checkout.session", session, checkout.settle, **values)


@control("POST", "/refunds/next")
def next_refunds(sandbox, given):
    values = {"times": 1, "pending_reason": "processing"} | told(given, "times", "pending_reason")
    books = books_of(sandbox, given)
    with sandbox.store.transaction():
        return refunds.arm(books, **values)


@control("POST", "/refunds/{refund}/settle")
def settle_refund(sandbox, given, refund):
    values = {"outcome": given["outcome"]} | told(given, "outcome", "failure_reason")
    return changed(sandbox, given, "refund", refund, refunds.settle, **values)


@control("POST", "/charges/{charge}/dispute")
def dispute(sandbox, given, charge):
    values = told(given, "reason", "amount", "inquiry")
    return changed(sandbox, given, "charge", charge, disputes.create, **values)


@control("POST", "/disputes/{dispute_id}/close")
def close_dispute(sandbox, given, dispute_id):
    values = {"outcome": given["outcome"]} | told(given, "outcome")
    return changed(sandbox, given, "dispute", dispute_id, disputes.close, **values)
