"""Who learns what of a run's findings: the backend of each, people of the first ones, then of all others at once."""

from collections import Counter
from datetime import datetime

from bson import ObjectId

from .. import outbox
from ..documents import Finding, ReconciliationRun

# Thousands of messages are read by nobody, and hide those about something else.
SINGLY = 20


def tell(finding: Finding, run_id: ObjectId, news: str, now: datetime, *, people: bool) -> dict[str, int]:
    """Tell of a finding that is new or changed, inside the caller's transaction; returns what is to be counted.

    Without `people` they are not told now: they are told of it in the summary.
    """
    facts = {
        "finding_id": str(finding.pk),
        "news": news,
        "kind": finding.kind,
        "severity": finding.severity,
        "cause": finding.cause,
        "stripe_customer_id": finding.stripe_customer_id,
        "stripe_subscription_ids": list(finding.stripe_subscription_ids),
        "stored": dict(finding.stored),
        "live": dict(finding.live),
        "money_at_risk": [dict(each) for each in finding.money_at_risk],
        "reconciliation_id": str(run_id),
    }
    key = f"divergence:{run_id}:{finding.fingerprint}"
    about = {"organization": finding.organization, "facts": facts} | ({} if people else {"sent_to": [outbox.PEOPLE]})
    outbox.put([outbox.signal("billing.reconciliation.divergence", key, now=now, **about)])
    counts = Counter({"told": 1, f"told_kinds.{finding.kind}": 1, f"told_severities.{finding.severity}": 1})
    for each in finding.money_at_risk:
        counts[f"told_money.{each['currency']}"] += each["amount"]
    return counts


def give_up(run: ReconciliationRun, error: str | None, now: datetime) -> None:
    """Tell people that a run failed; joins the transaction that ends it."""
    facts = {"job": "reconcile", "slot": run.slot, "reconciliation_id": str(run.pk), "error": error}
    outbox.put([outbox.signal("job_given_up", f"job_given_up:reconcile:{run.pk}", now=now, facts=facts)])


def sum_up(run: ReconciliationRun, state: str, now: datetime) -> None:
    """Tell people of all that a run found, once, if it was too much to be told singly; joins the transaction."""
    if run.told <= SINGLY:
        return
    facts = {
        "reconciliation_id": str(run.pk),
        "state": state,
        "told": run.told,
        "told_singly": SINGLY,
        "kinds": dict(run.told_kinds),
        "severities": dict(run.told_severities),
        "money_at_risk": [{"currency": name, "amount": sum_} for name, sum_ in sorted(run.told_money.items())],
        "findings": f"GET /api/admin/billing/findings?reconciliationId={run.pk}",
    }
    outbox.put([outbox.signal("billing.reconciliation.summary", f"divergences:{run.pk}", now=now, facts=facts)])
