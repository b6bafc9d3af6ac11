"""Asking Stripe for a refund, and what its answer is worth: made, certainly not made, or nobody knows.

Absence never means that it was not made: what is still being carried out is not listed yet.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from ..documents import RefundRequest
from ..errors import BillingError, StripeRejected
from ..observability import log
from ..stripe_gateway import LiveRefund, StripeGateway
from .requests import MARKER

# Stripe keeps a key for 24 hours at least; after that the same request would be another refund.
ASKING = timedelta(hours=20)


@dataclass(frozen=True)
class Answer:
    """The refund, or why there is none (rejected), or why nobody knows."""

    live: LiveRefund | None = None
    refusal: BillingError | None = None
    rejected: bool = False

    @property
    def cause(self) -> str:
        """Why nobody knows, in a code."""
        return self.refusal.code if self.refusal else "not_shown"


def ask_first(request: RefundRequest, stripe: StripeGateway) -> Answer:
    """Send a request of which no earlier attempt can have had an effect."""
    try:
        return Answer(live=_send(request, stripe))
    except BillingError as refusal:
        return Answer(refusal=refusal, rejected=not refusal.effect_possible)


def ask_again(request: RefundRequest, stripe: StripeGateway, now: datetime) -> Answer:
    """Send the same request with the same key, while Stripe keeps that, and look for what is not answered.

    Only what Stripe says of the request itself means that it was not made. Others (429, circuit, a refused key, a
    charge that this key does not see) speak of this attempt alone.
    """
    refusal: BillingError | None = None
    if now < request.sent_at + ASKING:
        try:
            return Answer(live=_send(request, stripe))
        except BillingError as error:
            refusal = error
    try:
        live = look(request, stripe)
    except BillingError as error:
        return Answer(refusal=refusal or error)
    return Answer(live, refusal, rejected=live is None and isinstance(refusal, StripeRejected))


def look(request: RefundRequest, stripe: StripeGateway) -> LiveRefund | None:
    """The refund of the charge that carries our id. Raises what the gateway raises."""
    found = [each for each in stripe.refunds_of(request.charge).value if carries(each, request)]
    if len(found) > 1:
        log.error("refund_made_twice", refund_request_id=request.refund_request_id, refunds=[each.id for each in found])
    return found[-1] if found else None


def carries(live: LiveRefund, request: RefundRequest) -> bool:
    """Whether a refund at Stripe is the request's."""
    named = live.metadata.get(MARKER) == request.refund_request_id or live.id == request.stripe_refund_id
    return named and live.charge == request.charge


def _send(request: RefundRequest, stripe: StripeGateway) -> LiveRefund:
    return stripe.create_refund(request.parameters, idempotency_key=request.idempotency_key).value
