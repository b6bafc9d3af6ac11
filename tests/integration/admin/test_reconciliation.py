"""GET /api/admin/billing/reconciliations/{reconciliationId}"""

from datetime import timedelta

import pytest
from bson import ObjectId

from billing_service import reconciliation

URL = "/api/admin/billing/reconciliations"


@pytest.fixture
def carried_out(runtime):
    """Carries out a run to its end."""

    def make():
        run = reconciliation.start("cli", runtime.clock(), actor="ops")
        desk = reconciliation.Desk(runtime.stripe, runtime.plans, runtime.clock, timedelta(0))
        while not reconciliation.go_on(desk, lambda: False).over:
            pass
        return run

    return make


def test_it_works(client, admin, billed, sandbox, carried_out):
    it, gone = billed("pro"), billed("pro")
    first = carried_out()
    sandbox.patch(it.subscription, {"status": "unpaid"})
    sandbox.remove(gone.subscription)
    sandbox.remove(gone.customer)
    second = carried_out()
    answer = client.get(f"{URL}/{second.pk}", headers=admin)
    assert answer.status_code == 200
    told = answer.json
    assert (told["state"], told["trigger"], told["actor"], told["phase"]) == ("completed", "cli", "ops", "resolving")
    assert (told["checked"], told["divergences"], told["errors"], told["findings"]) == (2, 1, 1, {"status": 1})
    assert told["errorSample"] == [
        {"subject": str(gone.org_id), "code": "missing_unproven", "detail": told["errorSample"][0]["detail"]}
    ]
    assert (told["previous"]["id"], told["previous"]["difference"]) == (str(first.pk), {"status": 1})
    assert client.get(f"{URL}/{first.pk}", headers=admin).json["previous"] is None


def test_it_shows_how_far_it_is(client, admin, runtime, billed):
    billed("pro")
    run = reconciliation.start("api", runtime.clock())
    told = client.get(f"{URL}/{run.pk}", headers=admin).json
    assert (told["state"], told["phase"], told["checked"], told["finishedAt"]) == ("running", "planned", 0, None)


def test_its_findings_say_what_is_at_risk(client, admin, billed, sandbox, carried_out):
    it = billed("pro")
    sandbox.patch(it.subscription, {"status": "unpaid"})
    carried_out()
    [found] = client.get("/api/admin/billing/findings", headers=admin).json["items"]
    assert found["moneyAtRisk"] == [{"currency": "usd", "amount": 4900}]
    assert (found["stored"]["stripePlan"] if "stripePlan" in found["stored"] else found["stored"]["plan"]) == "pro"
    csv = client.get("/api/admin/billing/findings?format=csv", headers=admin).text
    assert "moneyAtRisk" in csv.splitlines()[0]
    assert "4900" in csv


def test_an_unknown_one_is_404(client, admin):
    answer = client.get(f"{URL}/{ObjectId()}", headers=admin)
    assert (answer.status_code, answer.json["code"]) == (404, "reconciliation_not_found")


def test_it_needs_a_token(client):
    assert client.get(f"{URL}/{ObjectId()}").status_code == 401


def test_it_needs_the_permission(client, token):
    assert client.get(f"{URL}/{ObjectId()}", headers=token("service")).json["code"] == "forbidden"


@pytest.mark.parametrize("wrong", ["1", "x" * 24, "[$ne]"])
def test_it_rejects_bad_input(client, admin, wrong):
    answer = client.get(f"{URL}/{wrong}", headers=admin)
    assert (answer.status_code, list(answer.json["errors"])) == (422, ["reconciliationId"])
    answer = client.get(f"{URL}/{ObjectId()}?limit=1", headers=admin)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request")
