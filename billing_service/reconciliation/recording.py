"""What a run writes of what it saw: candidates' ends and findings, each with the count that belongs to it."""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId
from mongoengine.errors import NotUniqueError
from pymongo.errors import DuplicateKeyError

from ..documents import Finding, ReconciliationCandidate, Subscription
from ..documents.finding import OPEN_STATES, resolved
from ..scans import LostLease
from .diagnosis import KINDS
from .holding import Hold, Trouble
from .picture import Divergence
from .telling import SINGLY, tell

# What identifies these says all; webhooks note them in other words.
TOLD_BY_IDENTITY = frozenset({"several_live_subscriptions", "organization_conflict"})
UNTOLD = frozenset({"overridden"})
BATCH = 100


def close(
    hold: Hold, candidate: ReconciliationCandidate, state: str, counts: dict[str, int], trouble: Trouble | None = None
) -> None:
    """A candidate comes to an end without a finding."""
    error = f"{trouble.code}: {trouble.detail}"[:300] if trouble else None
    hold.commit(
        inc=counts,
        troubles=[trouble] if trouble else (),
        also=lambda: _write(candidate, state=state, error=error),
    )


def wait_again(hold: Hold, candidate: ReconciliationCandidate, seen: list[str], counts: dict[str, int]) -> None:
    """Something else was seen: it has to last as long as anything."""
    due_at = hold.desk.clock() + hold.desk.confirm
    fields = {"seen": seen, "restarts": candidate.restarts + 1, "due_at": due_at}
    hold.commit(inc=counts, also=lambda: _write(candidate, **fields))


def postpone(hold: Hold, candidate: ReconciliationCandidate, pause: timedelta) -> None:
    """Stripe failed for this one alone; the others come first."""
    fields = {"failures": candidate.failures + 1, "due_at": hold.desk.clock() + pause}
    hold.commit(inc={"stripe_requests": 1}, also=lambda: _write(candidate, **fields))


def record(
    hold: Hold, candidate: ReconciliationCandidate, found: Sequence[tuple[Divergence, str]], counts: dict[str, int]
) -> None:
    """A candidate is confirmed: findings, signals and counts, all or none."""
    now = hold.desk.clock()

    def write() -> dict[str, int]:
        _write(candidate, state="confirmed")
        ends: Counter[str] = Counter()
        for divergence, cause in found:
            singly = hold.run.told + ends["told"] < SINGLY
            end, told = remember(hold.run.pk, divergence, cause, now, people=singly)
            ends.update(told)
            # Two suspects of one organization, such as a subscription that nobody was known to own, show the same.
            ends[f"findings.{divergence.kind}"] += end != "counted"
            # That an override is acknowledged must not hide a divergence, of which it is none.
            ends[end] += end in ("new", "changed") or (end == "acknowledged" and divergence.kind not in UNTOLD)
        return {name: count for name, count in ends.items() if count}

    try:
        hold.commit(inc=counts, also=write)
    except (DuplicateKeyError, NotUniqueError):
        # A webhook noted the same a moment ago: now it is found.
        hold.commit(inc=counts, also=write)


def _write(candidate: ReconciliationCandidate, **fields: Any) -> None:
    waiting = ReconciliationCandidate.objects(id=candidate.pk, state="waiting", restarts=candidate.restarts)
    if not waiting.update_one(**{f"set__{name}": value for name, value in fields.items()}):
        raise LostLease


def remember(
    run_id: ObjectId, divergence: Divergence, cause: str, now: datetime, *, people: bool
) -> tuple[str, dict[str, int]]:
    """Make or renew a finding, and tell of it, `people` too.

    Returns new, changed, acknowledged, again, or counted by this run; and what is to be counted of what was told.
    """
    finding = Finding.objects(fingerprint=divergence.fingerprint, state__in=OPEN_STATES).first()
    if finding is None:
        finding = _new(divergence, now)
        end = "new"
    elif finding.run == run_id:
        return "counted", {}
    else:
        # One that a webhook noted has not been told by anybody.
        end = "new" if finding.run is None and finding.state == "open" else "again"
        end = "changed" if _differs(finding, divergence) and end != "new" else end
        end = "acknowledged" if end == "again" and finding.state == "acknowledged" else end
        finding.times_seen += 1
    finding.run, finding.last_seen_at = run_id, now
    if end in ("new", "changed"):
        # Whoever acknowledged it had seen something else.
        finding.state = "open"
        _fill(finding, divergence, cause)
    finding.save()
    if end in ("new", "changed") and divergence.kind not in UNTOLD:
        return end, tell(finding, run_id, end, now, people=people)
    return end, {}


def _new(divergence: Divergence, now: datetime) -> Finding:
    return Finding(fingerprint=divergence.fingerprint, kind=divergence.kind, first_seen_at=now, state="open")


def _fill(finding: Finding, divergence: Divergence, cause: str) -> None:
    finding.severity, finding.cause = divergence.severity, cause
    finding.organization, finding.stripe_customer_id = divergence.organization, divergence.customer
    finding.stripe_subscription_ids = list(divergence.subscriptions)
    finding.stored, finding.live = divergence.stored, divergence.live
    finding.money_at_risk = list(divergence.money_at_risk)


def _differs(finding: Finding, divergence: Divergence) -> bool:
    if divergence.kind in TOLD_BY_IDENTITY:
        return False
    was = (finding.severity, dict(finding.stored), dict(finding.live))
    return was != (divergence.severity, divergence.stored, divergence.live)


def resolve_unseen(hold: Hold, stop: Callable[[], bool]) -> None:
    """Resolve what this run compared and did not find again, then end it."""
    place = hold.run.place
    while not stop():
        hold.pulse()
        batch = list(_unseen(hold, place).order_by("id").limit(BATCH))
        if not batch:
            hold.end("completed")
            return
        place = batch[-1].pk
        compared = _compared(hold, batch)
        if compared:
            _resolve(hold, compared)
        hold.commit(sets={"place": place})


def _unseen(hold: Hold, place: ObjectId | None) -> Any:
    run = hold.run
    kinds = [each for each in KINDS if each != "usage_extras" or run.metered]
    wanted: dict[str, Any] = {"kind__in": kinds, "state__in": OPEN_STATES, "run__ne": run.pk}
    wanted["last_seen_at__lt"] = run.started_at
    if place:
        wanted["id__gt"] = place
    if run.organization:
        wanted["organization"] = run.organization
    return Finding.objects(**wanted)


def _compared(hold: Hold, findings: list[Finding]) -> list[Finding]:
    """Those of which everything was compared, and nothing is on its way."""
    organizations = [each.organization for each in findings if each.organization]
    subjects = [one for each in findings for one in each.stripe_subscription_ids]
    open_ends = ReconciliationCandidate.objects(run=hold.run.pk, state__in=("error", "in_flight"))
    names = {str(each) for each in organizations} | set(subjects)
    left = [*open_ends.filter(subject__in=sorted(names)).only("subject", "subscriptions")]
    # Whose it is may have become known since the finding was made; few are nobody's.
    if nobodys := [one for each in findings if not each.organization for one in each.stripe_subscription_ids]:
        left += open_ends.filter(subscriptions__in=nobodys).only("subject", "subscriptions")
    doubtful = {name for each in left for name in (each.subject, *each.subscriptions)}
    if hold.run.until:
        later = Subscription.objects(organization__in=organizations, stripe_created_at__gt=hold.run.until)
        doubtful |= {str(each.organization) for each in later.only("organization")}
    return [each for each in findings if not doubtful & {str(each.organization), *each.stripe_subscription_ids}]


def _resolve(hold: Hold, findings: list[Finding]) -> None:
    now = hold.desk.clock()

    def write() -> dict[str, int]:
        ids = [each.pk for each in findings]
        unseen = Finding.objects(id__in=ids, state__in=OPEN_STATES, last_seen_at__lt=hold.run.started_at)
        return {"resolved": unseen.update(**resolved("reconcile", now))}

    hold.commit(also=write)
