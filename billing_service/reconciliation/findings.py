"""The memory of findings: listed, acknowledged until a time, open again when that has passed."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from bson import ObjectId
from mongoengine import QuerySet

from ..documents import EPOCH, Finding, in_transaction
from ..documents.finding import OPEN_STATES
from ..errors import FindingNotFound, FindingResolved
from ..operations import Outcome

_FIELDS = {
    "state": "state",
    "kind": "kind",
    "severity": "severity",
    "org_id": "organization",
    "reconciliation_id": "run",
    "since": "first_seen_at__gte",
    "until": "first_seen_at__lt",
}
_ACKNOWLEDGED = ("state", "acknowledged_until", "acknowledged_by", "acknowledged_note")


def find_findings(asked: dict[str, Any]) -> QuerySet:
    """Findings by what is `asked`: state, kind, severity, org_id, reconciliation_id (the last run that saw it), since
    and until (first_seen_at)."""
    wanted = {field: asked[name] for name, field in _FIELDS.items() if asked.get(name) is not None}
    # The bound makes the index of the order count, too, when nothing else is asked.
    return Finding.objects(**({"first_seen_at__gte": EPOCH} | wanted))


def find_finding(finding_id: ObjectId) -> Finding:
    """The finding. Raises FindingNotFound."""
    finding = Finding.objects(id=finding_id).first()
    if finding is None:
        raise FindingNotFound(f"There is no finding {finding_id}.")
    return finding


def organization_of(finding_id: ObjectId) -> ObjectId | None:
    """Whose finding it is; None also if there is no such finding."""
    finding = Finding.objects(id=finding_id).only("organization").first()
    return finding.organization if finding else None


def foretell_acknowledgement(finding_id: ObjectId, *, by: str, until: datetime, note: str | None) -> Outcome:
    """What acknowledging would change. Raises FindingNotFound, FindingResolved."""
    before, values = _require_open(finding_id).describe(), _acknowledged(by, until, note)
    return Outcome({"finding": before | values, "changed": _changed(before, values)})


def acknowledge(
    finding_id: ObjectId,
    *,
    by: str,
    until: datetime,
    note: str | None,
    now: datetime,
    also: Callable[[Outcome], None],
) -> Outcome:
    """Take note of an open finding until a time: whatever it says by then, it is listed as open again.

    `also` joins the transaction. Raises FindingNotFound, FindingResolved.
    """

    def write() -> Outcome:
        # Whoever resolves it meanwhile conflicts with this write: all of this is read and decided once more then.
        outcome = foretell_acknowledgement(finding_id, by=by, until=until, note=note)
        if outcome.answer["changed"]:
            values = _acknowledged(by, until, note) | {"acknowledged_at": now}
            Finding.objects(id=finding_id).update_one(**{f"set__{name}": value for name, value in values.items()})
            outcome.answer["finding"] |= values
        also(outcome)
        return outcome

    return in_transaction(write)


def reopen_lapsed(now: datetime) -> int:
    """Open again what was acknowledged until a time that has passed; returns how many."""
    lapsed = Finding.objects(state="acknowledged", acknowledged_until__lte=now)
    return lapsed.update(set__state="open")


def _acknowledged(by: str, until: datetime, note: str | None) -> dict[str, Any]:
    return dict(zip(_ACKNOWLEDGED, ("acknowledged", until, by, note), strict=True))


def _require_open(finding_id: ObjectId) -> Finding:
    finding = find_finding(finding_id)
    if finding.state not in OPEN_STATES:
        raise FindingResolved(
            f"The finding was resolved by {finding.resolved_by} already: there is nothing to acknowledge. "
            "Nothing was written."
        )
    return finding


def _changed(before: dict[str, Any], values: dict[str, Any]) -> list[str]:
    changed = [name for name, value in values.items() if before[name] != value]
    # Somebody else who acknowledges it until the same time, for the same reason, changes nothing.
    return [] if changed == ["acknowledged_by"] else changed
