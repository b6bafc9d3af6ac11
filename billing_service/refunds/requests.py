"""Refund requests as they are stored: found by their id, held to what was asked, within the role's limit, leased."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId
from mongoengine import QuerySet
from mongoengine.errors import NotUniqueError
from pymongo.errors import DuplicateKeyError

from ..documents import EPOCH, RefundRequest, in_transaction
from ..errors import BillingError, IdempotencyInProgress, RefundLimitExceeded, RefundRequestMismatch
from ..operations import Running
from ..stripe_gateway import LiveCharge
from ..subscriptions import MARKER as ORGANIZATION

MARKER = "refundRequestId"
# A request that is being sent for longer is one of which nobody knows.
LEASE = timedelta(minutes=1)
# What never was or is no more: it does not count towards the limit.
GIVEN_BACK = ("rejected", "failed")
SETTLED = ("accepted", "succeeded", "failed")

_FIELDS = {
    "state": "state",
    "org_id": "organization",
    "actor": "actor",
    "charge_id": "charge",
    "refund_request_id": "refund_request_id",
    "after": "created_at__gte",
    "before": "created_at__lt",
}


@dataclass(frozen=True)
class Wanted:
    """What the admin asked for; `amount` None: all that is left of the charge."""

    refund_request_id: str
    charge_id: str
    amount: int | None = None
    reason: str | None = None
    note: str | None = None

    @property
    def asked(self) -> dict[str, Any]:
        """What must be equal for an id to mean the same refund."""
        return {"charge_id": self.charge_id, "amount_cents": self.amount, "reason": self.reason}


@dataclass(frozen=True)
class Resolved:
    """What a wanted refund comes to: of which charge, whose, and how much in minor units."""

    charge: LiveCharge
    organization: ObjectId
    amount: int


def find_requests(asked: dict[str, Any]) -> QuerySet:
    """Refund requests by what is `asked`: state, org_id, actor, charge_id, refund_request_id, after and before."""
    wanted = {field: asked[name] for name, field in _FIELDS.items() if asked.get(name) is not None}
    # The bound makes the index of the order count, too, when nothing else is asked.
    return RefundRequest.objects(**({"created_at__gte": EPOCH} | wanted))


def find_known(wanted: Wanted) -> RefundRequest | None:
    """The request with this id. Raises RefundRequestMismatch if it is of another refund."""
    known = RefundRequest.objects(refund_request_id=wanted.refund_request_id).first()
    if known and known.asked != wanted.asked:
        raise RefundRequestMismatch(
            f"{wanted.refund_request_id} was used for another charge, amount or reason. Nothing was refunded. "
            "Another refund needs an id of its own."
        )
    return known


def check_limit(actor: str, charge_id: str, amount: int, limit: int | None, *, besides: str) -> None:
    """Refuse more than `limit` of one charge by one actor, all requests together. Raises RefundLimitExceeded.

    `besides` is the id of the request itself, which is counted as `amount`.
    """
    if limit is None:
        return
    others = RefundRequest.objects(charge=charge_id, actor=actor, state__nin=GIVEN_BACK, refund_request_id__ne=besides)
    before = sum(each.amount for each in others.only("amount"))
    if before + amount > limit:
        raise RefundLimitExceeded(
            f"Your role may refund {limit} (minor units) of a charge. This asks for {amount}, and {before} of "
            f"{charge_id} were asked for by you before. Nothing was refunded. Ask somebody who may refund more.",
            limit=limit,
            amount=amount,
            askedBefore=before,
        )


def store(wanted: Wanted, resolved: Resolved, running: Running, now: datetime) -> RefundRequest:
    """Store the request, leased, before Stripe is asked. Raises IdempotencyInProgress if another one was first."""
    charge, amount = resolved.charge, resolved.amount
    metadata = {MARKER: wanted.refund_request_id, ORGANIZATION: str(resolved.organization)}
    reason = {"reason": wanted.reason} if wanted.reason else {}
    request = RefundRequest(
        refund_request_id=wanted.refund_request_id,
        organization=resolved.organization,
        asked=wanted.asked,
        # The amount is always named: what is left may grow between the check of the limit and the refund.
        parameters={"charge": charge.id, "amount": amount, **reason, "metadata": metadata},
        charge=charge.id,
        amount=amount,
        currency=charge.currency,
        reason=wanted.reason,
        note=wanted.note,
        actor=running.asked.actor,
        state="pending",
        operation=running.record.pk,
        lease_until=now + LEASE,
        next_check_at=now + LEASE,
        created_at=now,
        updated_at=now,
        sent_at=now,
    )

    def write() -> None:
        request.save(force_insert=True)
        running.pursue()

    try:
        in_transaction(write)
    except (NotUniqueError, DuplicateKeyError) as error:
        running.nothing_was_sent()
        raise in_progress(wanted.refund_request_id) from error
    return request


def claim(known: RefundRequest, now: datetime, running: Running | None = None) -> RefundRequest:
    """Lease a request that nobody works on; one that was rejected is pending again, any other is unknown.

    `running` is the operation that sends a rejected one anew. Raises IdempotencyInProgress.
    """
    anew = known.state == "rejected"
    values: dict[str, Any] = {"lease_until": now + LEASE, "next_check_at": now + LEASE, "updated_at": now}
    if anew:
        assert running is not None
        values |= {"state": "pending", "sent_at": now, "operation": running.record.pk, "error": None}
    else:
        values |= {"state": "unknown"}

    def write() -> bool:
        free = RefundRequest.objects(id=known.pk, attempt=known.attempt, state=known.state, lease_until__lte=now)
        if not free.update_one(inc__attempt=1, **{f"set__{name}": value for name, value in values.items()}):
            return False
        if anew and running:
            running.pursue()
        return True

    if not in_transaction(write):
        raise in_progress(known.refund_request_id)
    return RefundRequest.objects(id=known.pk).first()


def in_progress(refund_request_id: str) -> BillingError:
    """The refusal of a call that another one with the same id is ahead of."""
    return IdempotencyInProgress(
        f"The refund {refund_request_id} is being carried out right now; ask again in a moment, with the same id.",
        retry_after=2,
    )
