"""Stripe's events of refunds: which of our requests they tell of, and what they settle."""

from collections.abc import Iterable
from typing import Any

from bson import ObjectId

from ..documents import RefundRequest
from ..operations import Clock
from ..stripe_gateway import LiveRefund, StripeGateway
from ..stripe_gateway.shapes import refund as read_refund
from .asking import carries
from .requests import MARKER
from .settling import Seen, settle

UNSETTLED = ("pending", "unknown", "rejected", "accepted")


def told_by(subject: dict[str, Any], stripe: StripeGateway) -> tuple[ObjectId | None, tuple[Seen, ...]]:
    """Whose refunds, and in which state, an event's object (a refund or a charge) tells of; nothing if not ours.

    A charge does not name its refunds: they are listed, if a request waits for them. Raises what the gateway raises.
    """
    found = [(live, _request_of(live)) for live in _refunds_in(subject, stripe)]
    ours = [(live, request) for live, request in found if request]
    return (ours[0][1].organization if ours else None), tuple(Seen.of(live, request) for live, request in ours)


def _refunds_in(subject: dict[str, Any], stripe: StripeGateway) -> Iterable[LiveRefund]:
    if subject.get("object") == "refund":
        return (read_refund(subject),)
    waits = RefundRequest.objects(charge=subject["id"], state__in=UNSETTLED).only("id").first()
    return stripe.refunds_of(subject["id"]).value if waits else ()


def _request_of(live: LiveRefund) -> RefundRequest | None:
    named = live.metadata.get(MARKER)
    known = RefundRequest.objects(refund_request_id=named).first() if named else None
    known = known or RefundRequest.objects(stripe_refund_id=live.id).first()
    return known if known and carries(live, known) else None


def follow(told: Iterable[Seen], clock: Clock) -> None:
    """Settle the requests that an event tells of; called inside the transaction of the event's own end."""
    for seen in told:
        settle(seen, clock)
