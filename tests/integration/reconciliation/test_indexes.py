"""A run reads by index what it compares, as MongoDB's profiler saw it."""

from billing_service.documents import Finding, Organization, ReconciliationCandidate, Subscription
from billing_service.jobs.sweep import sweep


def test_nothing_is_read_without_an_index(seeded, sandbox, reconcile, profiled, organization, deliver, billed):
    seeded(1_200)
    it = billed("pro")
    deliver()
    for index in range(0, 1_200, 200):
        sandbox.patch(f"sub_1Seed01{index:08d}", {"status": "unpaid"})
    sandbox.patch(it.subscription, {"status": "unpaid"})
    organization(plan="pro")
    with profiled:
        run = reconcile()
    assert run.divergences == 8
    for name in ("subscriptions", "organizations", "findings", "reconciliation_candidates", "webhook_events"):
        seen = profiled.of(name)
        assert seen, name
        scans = [each for each in seen if "COLLSCAN" in each["planSummary"]]
        assert scans == [], [(each["command"], each["planSummary"]) for each in scans]
    listed = [each for each in profiled.of("subscriptions") if "stripe_created_at: 1" in each["planSummary"]]
    assert sum(each.get("docsExamined", 0) for each in listed) < 1.4 * len(Subscription.objects)


def test_resolving_reads_findings_by_index(app, billed, reconcile, profiled, runtime):
    it = billed("pro")
    now = runtime.clock()
    Finding._get_collection().insert_many(
        [
            {
                "fingerprint": f"{number}",
                "kind": "status",
                "severity": "low",
                "state": "resolved" if number % 50 else "open",
                "organization": it.org_id,
                "first_seen_at": now,
                "last_seen_at": now,
            }
            for number in range(5_000)
        ]
    )
    with profiled:
        run = reconcile()
    assert run.resolved == 100
    for each in profiled.of("findings"):
        assert each["planSummary"].startswith("IXSCAN"), each["planSummary"]
        assert each.get("docsExamined", 0) <= 250, each


def test_the_sweep_looks_for_runs_by_index(app, profiled):
    with profiled:
        sweep()
    assert all("COLLSCAN" not in each["planSummary"] for each in profiled.of("reconciliation_runs"))


def test_the_candidates_are_taken_by_index(app, start, profiled):
    run = start()
    now = run.started_at
    ReconciliationCandidate._get_collection().insert_many(
        [
            {
                "run": run.pk,
                "subject": f"sub_{number}",
                "state": "cleared" if number % 50 else "waiting",
                "due_at": now,
                "first_seen_at": now,
            }
            for number in range(3_000)
        ]
    )
    with profiled:
        ReconciliationCandidate.objects(run=run.pk, state="waiting").order_by("due_at").first()
    [find] = profiled.of("reconciliation_candidates")
    assert find["docsExamined"] == 1
    assert len(Organization.objects) == 0
