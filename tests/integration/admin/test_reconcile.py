"""POST /api/admin/billing/reconcile"""

import threading

import pytest
from rq import Queue

from billing_service.documents import AdminAction, OutboxSignal, ReconciliationRun
from billing_service.jobs import wakeups

URL = "/api/admin/billing/reconcile"


@pytest.fixture(autouse=True)
def redis_may_be_asked():
    wakeups.silence.end()


def queued(runtime):
    queue = Queue("batch", connection=runtime.redis.client())
    return [job.func_name.rpartition(".")[2] for job in queue.jobs]


def test_it_works(client, admin, runtime):
    answer = client.post(URL, headers=admin, json={"note": "before the audit"})
    assert answer.status_code == 202
    run = ReconciliationRun.objects.get()
    assert answer.json == {
        "reconciliationId": str(run.pk),
        "statusUrl": f"/api/admin/billing/reconciliations/{run.pk}",
    }
    assert (run.trigger, run.actor, run.state, run.active, run.organization) == (
        "api",
        "ada@example.com",
        "running",
        True,
        None,
    )
    assert queued(runtime) == ["reconcile_on"]
    assert client.get(answer.json["statusUrl"], headers=admin).json["state"] == "running"
    intent, outcome = AdminAction.objects.order_by("id")
    assert (intent.phase, outcome.phase, outcome.outcome, outcome.action) == (
        "intent",
        "outcome",
        "succeeded",
        "reconcile",
    )
    assert (outcome.note, outcome.target) == ("before the audit", "all")


def test_one_organization(client, admin, organization):
    org_id = organization()
    answer = client.post(URL, headers=admin, json={"orgId": str(org_id)})
    assert answer.status_code == 202
    assert ReconciliationRun.objects.get().organization == org_id
    assert AdminAction.objects(phase="outcome").get().organization == org_id


def test_an_unknown_organization_is_404(client, admin, frozen):
    with frozen:
        for query in ("", "?dryRun=true"):
            answer = client.post(URL + query, headers=admin, json={"orgId": "5" * 24})
            assert (answer.status_code, answer.json["code"]) == (404, "organization_not_found")


def test_a_second_one_is_refused(client, admin, organization, runtime):
    first = client.post(URL, headers=admin).json["reconciliationId"]
    for query, body in (("", {}), ("?dryRun=true", {}), ("", {"orgId": str(organization())})):
        answer = client.post(URL + query, headers=admin, json=body)
        assert (answer.status_code, answer.json["code"]) == (409, "reconciliation_running")
        assert answer.json["reconciliationId"] == first
    assert len(ReconciliationRun.objects) == 1


def test_one_that_was_interrupted_is_gone_on_with(client, admin, organization, runtime):
    first = client.post(URL, headers=admin).json["reconciliationId"]
    ReconciliationRun.objects().update(set__state="interrupted")
    other = client.post(URL, headers=admin, json={"orgId": str(organization())})
    assert other.json["code"] == "reconciliation_running"
    answer = client.post(URL, headers=admin)
    assert (answer.status_code, answer.json["reconciliationId"]) == (202, first)


def test_a_dry_run_tells_what_it_would_cost(client, admin, frozen, billed, sandbox):
    for _ in range(3):
        billed("pro")
    sandbox.clear_requests()
    with frozen:
        answer = client.post(f"{URL}?dryRun=true", headers=admin)
    assert answer.status_code == 200
    assert answer.json == {"dryRun": True, "expected": 3, "stripeRequests": 6, "seconds": 1}
    assert sandbox.requests()["count"] == 0
    assert OutboxSignal.objects(name="billing.reconciliation.divergence").count() == 0


def test_twice_is_once(client, admin):
    headers = admin | {"Idempotency-Key": "once"}
    first, second = (client.post(URL, headers=headers) for _ in range(2))
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json == second.json
    assert second.headers["Idempotency-Replayed"] == "true"
    assert len(ReconciliationRun.objects) == 1


def test_two_at_once_start_one(app, admin):
    answers = []
    barrier = threading.Barrier(4)

    def post():
        barrier.wait()
        answers.append(app.test_client().post(URL, headers=admin))

    threads = [threading.Thread(target=post) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(each.status_code for each in answers) == [202, 409, 409, 409]
    assert len(ReconciliationRun.objects) == 1


def test_without_redis_it_is_started_all_the_same(client, admin, servers):
    servers.redis.kill()
    try:
        assert client.post(URL, headers=admin).status_code == 202
    finally:
        servers.redis.start()
    assert ReconciliationRun.objects.get().active


def test_it_needs_a_token(client, frozen):
    with frozen:
        assert client.post(URL).status_code == 401


def test_it_needs_the_permission(client, token, frozen):
    with frozen:
        answer = client.post(URL, headers=token("support"))
    assert (answer.status_code, answer.json["code"]) == (403, "forbidden")


@pytest.mark.parametrize(
    "body", [{"orgId": "x"}, {"orgId": {"$ne": 1}}, {"orgId": None}, {"note": 5}, {"kind": "status"}, {"note": "\x00"}]
)
def test_it_rejects_bad_input(client, admin, frozen, body):
    with frozen:
        answer = client.post(URL, headers=admin, json=body)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request")


def test_it_reports_stripe_down(client, admin, sandbox):
    """Not here: the run waits, and its row says so."""
    sandbox.arm("drop", times=None)
    assert client.post(URL, headers=admin).status_code == 202
    assert sandbox.requests()["count"] == 0
