"""An import that this process holds, and what of it stands in the audit log."""

import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from .. import scans
from ..documents import AdminAction, ImportRun
from ..operations import AUDIT_KEPT

TELL_SECONDS = 0.5
# What is counted in transactions that are not this module's.
COUNTED = ("listed", "settled", "organizations", "stripe_requests")


@dataclass(frozen=True)
class Desk(scans.Desk):
    """What importing needs of the running process, and who wants it: None, whoever began."""

    actor: str | None = None
    note: str | None = None


class Hold(scans.Hold[ImportRun, Desk]):
    """An import that this process holds; its numbers are as of the last telling."""

    document = ImportRun
    noun = "import"
    retry_pause = timedelta(seconds=5)
    _told_at = 0.0

    def begin(self) -> None:
        """Name who goes on with it now for all that it makes from here on. Raises LostLease."""
        run, desk = self.run, self.desk
        if desk.actor is None or (desk.actor, desk.note or run.note) == (run.actor, run.note):
            return
        run.actor, run.note = desk.actor, desk.note
        self.commit(lambda: audit(run, "intent", desk.clock()), sets={"actor": run.actor, "note": run.note})

    def tell(self) -> None:
        """Read the numbers again and tell how far it is, twice a second at the most."""
        if time.monotonic() - self._told_at < TELL_SECONDS:
            return
        self._told_at = time.monotonic()
        # Without the lock: a commit that takes long must not keep this thread from renewing the lease.
        fresh = ImportRun.objects(id=self.run.pk).only(*COUNTED).first()
        for name in COUNTED if fresh else ():
            setattr(self.run, name, getattr(fresh, name))
        super().tell()

    def ended(self, state: str, error: str | None) -> None:
        """Say in the audit log what it came to."""
        audit(ImportRun.objects(id=self.run.pk).first(), "outcome", self.desk.clock())

    def summary(self) -> dict[str, Any]:
        """What it is, for the log."""
        return {"apply": self.run.apply}


def audit(run: ImportRun, phase: str, now: datetime) -> None:
    """Say in the audit log that an import begins, or what it came to; each row it makes has a line of its own.

    One that writes nothing else has none.
    """
    if not run.apply:
        return
    results = {"completed": "succeeded", "failed": "failed", "discarded": "failed"}
    AdminAction(
        operation=run.pk,
        phase=phase,
        at=now,
        actor=run.actor,
        role="cli",
        action="import",
        target=f"import {run.pk}",
        note=run.note,
        outcome="pending" if phase == "intent" else results[run.state],
        parameters={"canceled": run.canceled, "organizations": run.organizations, "states": dict(run.states)},
        error=run.error,
        expires_at=now + AUDIT_KEPT,
    ).save(force_insert=True)
