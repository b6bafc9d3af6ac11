"""What an admin asked for, and what came of it: plain values that operations pass on."""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from bson import ObjectId

from .documents import AdminOperation
from .errors import BillingError


@dataclass(frozen=True)
class Asked:
    """What an admin asked for. `sealed`: digests of what is compared and must not be stored, such as a password."""

    kind: str
    target: str
    organization: ObjectId | None
    actor: str
    role: str
    route: str
    body: dict[str, Any]
    note: str | None = None
    idempotency_key: str | None = None
    request_id: str | None = None
    sealed: dict[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, record: AdminOperation) -> "Asked":
        """The request behind a stored operation, for what the service itself does about it later."""
        return cls(
            kind=record.kind,
            target=record.target,
            organization=record.organization,
            actor=record.actor,
            role=record.role,
            route=record.route,
            body=record.parameters,
            note=record.note,
            idempotency_key=record.idempotency_key,
            request_id=record.request_id,
        )

    @property
    def body_hash(self) -> str:
        """What must be equal for a key to mean the same request."""
        compared = [self.target, self.body, *([self.sealed] if self.sealed else [])]
        canonical = json.dumps(compared, sort_keys=True, default=str)
        return hashlib.sha256(canonical.encode()).hexdigest()


@dataclass(frozen=True)
class Outcome:
    """What an operation made: the answer as plain values and the subscription object before and after.

    `error` tells the audit log that what was asked for did not come about, although there is an answer.
    """

    answer: dict[str, Any]
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None
    status: int = 200
    error: str | None = None


def stored_refusal(known: AdminOperation) -> BillingError:
    """The refusal that was the answer of an operation, as an exception again."""
    answer = dict(known.answer)
    names = {
        "code": answer.pop("code"),
        "status": known.answer_status,
        "title": answer.pop("title"),
        "level": "info",
        "is_stored": True,
    }
    kind = type("StoredRefusal", (BillingError,), names)
    for standard in ("type", "status", "requestId"):
        answer.pop(standard, None)
    return kind(answer.pop("detail", ""), errors=answer.pop("errors", None), **answer)
