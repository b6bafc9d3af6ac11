"""Refunding a charge for an admin: stored first, sent once, repeated only with the same id, key and parameters."""

from typing import Any

from ..asked import Outcome
from ..documents import RefundRequest, in_transaction
from ..errors import BillingError, RefundLimitExceeded
from ..operations import Clock, Running
from ..stripe_gateway import StripeGateway
from .asking import Answer, ask_again, ask_first
from .charges import amount_of, find_charge, owner_of, refuse_excess
from .requests import SETTLED, Resolved, Wanted, check_limit, claim, find_known, in_progress, store
from .settling import SHOWN, Seen, leave_unknown, outcome_of, reject, settle
from .timing import pause_after


def refund(wanted: Wanted, *, limit: int | None, stripe: StripeGateway, running: Running, clock: Clock) -> Outcome:
    """Refund a charge, or go on with the refund of this id; the outcome is recorded. `limit` is in minor units.

    Refuses with RefundRequestMismatch, ChargeUnknown, CustomerShared, RefundLimitExceeded, IdempotencyInProgress and
    what the gateway refuses; a refusal means that the money is certainly not on its way. Otherwise the outcome's status
    is 202 while nobody knows.
    """
    known = find_known(wanted)
    if known is None:
        request = _begin(wanted, limit, stripe, running, clock)
        return record(request, ask_first(request, stripe), clock, running)
    running.announce(known.organization, **_resolution(known))
    if known.state in SETTLED:
        return outcome_of(known)
    if known.lease_until > clock():
        raise in_progress(known.refund_request_id)
    if known.state == "rejected":
        return _send_anew(known, limit, stripe, running, clock)
    request = claim(known, clock())
    return record(request, ask_again(request, stripe, clock()), clock, running)


def _begin(wanted: Wanted, limit: int | None, stripe: StripeGateway, running: Running, clock: Clock) -> RefundRequest:
    resolved = _resolve(wanted, stripe)
    charge, actor = resolved.charge, running.asked.actor
    facts = {"charge": charge.id, "amount": resolved.amount, "currency": charge.currency}
    running.announce(resolved.organization, **facts)
    check_limit(actor, charge.id, resolved.amount, limit, besides=wanted.refund_request_id)
    request = store(wanted, resolved, running, clock())
    _check_limit_again(request, actor, limit, clock, running)
    return request


def _resolve(wanted: Wanted, stripe: StripeGateway) -> Resolved:
    charge = find_charge(wanted.charge_id, stripe)
    return Resolved(charge, owner_of(charge), amount_of(charge, wanted.amount))


def _check_limit_again(request: RefundRequest, actor: str, limit: int | None, clock: Clock, running: Running) -> None:
    """Two requests at once see each other only once they are stored; then both are refused rather than none."""
    try:
        check_limit(actor, request.charge, request.amount, limit, besides=request.refund_request_id)
    except RefundLimitExceeded as error:
        refusal = error
        in_transaction(lambda: reject(request, refusal, clock, running))
        raise


def _send_anew(
    known: RefundRequest, limit: int | None, stripe: StripeGateway, running: Running, clock: Clock
) -> Outcome:
    actor = running.asked.actor
    check_limit(actor, known.charge, known.amount, limit, besides=known.refund_request_id)
    request = claim(known, clock(), running)
    _check_limit_again(request, actor, limit, clock, running)
    return record(request, ask_first(request, stripe), clock, running)


def _resolution(request: RefundRequest) -> dict[str, Any]:
    return {"charge": request.charge, "amount": request.amount, "currency": request.currency}


def record(request: RefundRequest, answer: Answer, clock: Clock, running: Running | None = None) -> Outcome:
    """Write what Stripe's answer means; raises the refusal of a refund that certainly was not made."""
    live, refusal = answer.live, answer.refusal
    if live:
        seen = Seen.of(live, request)
        return in_transaction(lambda: settle(seen, clock, running))
    if answer.rejected:
        assert isinstance(refusal, BillingError)
        known = in_transaction(lambda: reject(request, refusal, clock, running))
        if known is None:
            raise refusal
        return known
    pause = pause_after(clock() - request.sent_at)
    return in_transaction(lambda: leave_unknown(request, answer.cause, pause, clock, running))


def foretell(wanted: Wanted, *, actor: str, limit: int | None, stripe: StripeGateway) -> Outcome:
    """What a refund would come to, with the same refusals; nothing is sent and nothing is written."""
    known = find_known(wanted)
    if known and known.state != "rejected":
        return Outcome(outcome_of(known).answer)
    resolved = _resolve(wanted, stripe)
    charge, amount = resolved.charge, known.amount if known else resolved.amount
    check_limit(actor, charge.id, amount, limit, besides=wanted.refund_request_id)
    refuse_excess(charge, amount)
    answer = dict.fromkeys(SHOWN) | {
        "refund_request_id": wanted.refund_request_id,
        "organization": resolved.organization,
        "charge": charge.id,
        "amount": amount,
        "currency": charge.currency,
        "reason": wanted.reason,
        "actor": actor,
        "amount_left": charge.amount_refundable - amount,
        "disputed": charge.disputed,
        "changed": ["state", "stripe_refund_id"],
    }
    return Outcome(answer)
