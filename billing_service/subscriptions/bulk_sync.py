"""Syncing many organizations, one after the other: those of a kind of finding, or those whose rows have a status.

Each is the same sync as that of one organization, with its own operation and audit rows. Nothing is remembered of the
whole: who is in step needs no second sync, so running it again goes on.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any

from bson import ObjectId

from ..asked import Asked, Outcome
from ..documents import STORE_ERRORS, Finding, Subscription
from ..documents.finding import OPEN_STATES
from ..errors import BillingError, MissingUnproven
from ..observability import log
from ..operations import Running, perform
from ..plans import Plans
from ..stripe_gateway import StripeGateway
from .decision import Change
from .synchronization import OF_STRIPE, change_outcome, sync

PAGE = 100
LONGEST_PAUSE_SECONDS = 10.0
# Not this organization's own trouble: Stripe, the database, or a key that does not see what it should.
TROUBLE = (*OF_STRIPE, *STORE_ERRORS, MissingUnproven)


@dataclass(frozen=True)
class Synced:
    """What became of one organization: `changed`, `unchanged`, `refused` by what it is, or `failed`."""

    organization: ObjectId
    result: str
    code: str | None = None
    detail: str | None = None
    fields: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    # One failure too many in a row: nobody else is tried.
    stops: bool = False


@dataclass(frozen=True)
class Desk:
    """What syncing needs of the running process, and who asked for it."""

    stripe: StripeGateway
    plans: Plans
    clock: Callable[[], datetime]
    actor: str
    note: str | None = None
    # What was selected, for the audit log.
    selection: dict[str, str] = field(default_factory=dict)
    sleep: Callable[[float], None] = time.sleep


def organizations_with_finding(kind: str) -> Iterator[ObjectId]:
    """The organizations with an open or acknowledged finding of the kind, each once, the oldest finding first."""
    seen: set[bytes] = set()
    for each in _open_findings(kind):
        org_id = each.get("organization")
        if org_id and org_id.binary not in seen:
            seen.add(org_id.binary)
            yield org_id


def _open_findings(kind: str) -> Iterator[dict[str, Any]]:
    """The findings in pages of their own: syncing takes minutes, and resolves them meanwhile."""
    wanted: dict[str, Any] = {"kind": kind, "state": {"$in": list(OPEN_STATES)}}
    after: dict[str, Any] = {}
    while True:
        found = Finding._get_collection().find(wanted | after, {"organization": 1, "first_seen_at": 1})
        page = list(found.hint("kind_first_seen").sort([("first_seen_at", 1), ("_id", 1)]).limit(PAGE))
        yield from page
        if len(page) < PAGE:
            return
        at, last = page[-1]["first_seen_at"], page[-1]["_id"]
        # The bound by itself is what the index begins at.
        after = {"first_seen_at": {"$gte": at}, "$or": [{"first_seen_at": {"$gt": at}}, {"_id": {"$gt": last}}]}


def organizations_with_status(status: str) -> Iterator[ObjectId]:
    """The organizations whose rows have the status now, each once."""
    # A row's key in this index moves while it is synced, and may be met again; it is asked for once.
    rows = Subscription._get_collection().find({"status": status}, {"organization": 1}).hint("weekly_reset_due")
    seen: set[bytes] = set()
    for each in rows.batch_size(PAGE):
        if each["organization"].binary not in seen:
            seen.add(each["organization"].binary)
            yield each["organization"]


def count_unnamed(kind: str) -> int:
    """How many open findings of the kind name no organization: nobody can sync those."""
    return Finding.objects(organization=None, state__in=OPEN_STATES, kind=kind).count()


def sync_each(organizations: Iterable[ObjectId], desk: Desk, *, apply: bool, stop_after: int) -> Iterator[Synced]:
    """Sync them one by one, in the background's share of the budget; ends early after `stop_after` failures in a row.

    Without `apply` nothing is written. A refusal is the organization's own matter and breaks no row of failures, but
    does not count as one either.
    """
    failures = 0
    for org_id in organizations:
        with desk.stripe.background():
            synced, pause = _sync_one(org_id, desk, apply)
        if synced.result != "refused":
            failures = failures + 1 if synced.result == "failed" else 0
        yield replace(synced, stops=failures >= stop_after)
        if failures >= stop_after:
            return
        if pause:
            desk.sleep(min(pause, LONGEST_PAUSE_SECONDS))


def _sync_one(org_id: ObjectId, desk: Desk, apply: bool) -> tuple[Synced, float]:
    """What became of it, and for how long to wait before the next one."""
    try:
        outcome = _applied(org_id, desk) if apply else _foretold(org_id, desk)
    except TROUBLE as error:
        code, detail = _words(error)
        pause = float(getattr(error, "retry_after", None) or 1.0)
        return Synced(org_id, "failed", code, detail), pause
    except BillingError as refusal:
        return Synced(org_id, "refused", refusal.code, refusal.detail), 0.0
    except Exception as bug:
        log.error("bulk_sync_failed", organization=str(org_id), exc_info=bug)
        return Synced(org_id, "failed", *_words(bug)), 0.0
    names, before, after = outcome.answer["changed"], outcome.before or {}, outcome.after or {}
    fields = {name: (before.get(name), after.get(name)) for name in names}
    return Synced(org_id, "changed" if fields else "unchanged", fields=fields), 0.0


def _foretold(org_id: ObjectId, desk: Desk) -> Outcome:
    change = sync(org_id, stripe=desk.stripe, plans=desk.plans, now=desk.clock(), dry_run=True)
    return change_outcome(change)


def _applied(org_id: ObjectId, desk: Desk) -> Outcome:
    asked = Asked("sync", str(org_id), org_id, desk.actor, "cli", "cli sync", dict(desk.selection), note=desk.note)
    return perform(asked, desk.clock, partial(_carry_out, org_id, desk))[0]


def _carry_out(org_id: ObjectId, desk: Desk, running: Running) -> Outcome:
    def also(change: Change) -> None:
        running.complete(change_outcome(change))

    return change_outcome(sync(org_id, stripe=desk.stripe, plans=desk.plans, now=desk.clock(), also=also))


def _words(error: Exception) -> tuple[str, str]:
    if isinstance(error, BillingError):
        return error.code, error.detail
    code = "store_unavailable" if isinstance(error, STORE_ERRORS) else "internal_error"
    return code, type(error).__name__
