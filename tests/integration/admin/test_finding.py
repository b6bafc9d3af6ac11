"""GET /api/admin/billing/findings/{findingId}"""

import pytest
from bson import ObjectId

from billing_service.blueprints.wire import iso
from billing_service.documents import Finding

URL = "/api/admin/billing/findings"


@pytest.fixture
def found(runtime, organization):
    """Makes a finding."""

    def make(**fields):
        now = runtime.clock()
        known = {"kind": "status", "severity": "high", "organization": organization(), "state": "open"}
        times = {"first_seen_at": now, "last_seen_at": now}
        return Finding(fingerprint=str(ObjectId()), **(known | times | fields)).save()

    return make


def test_it_works(client, admin, found):
    run = ObjectId()
    it = found(
        cause="never_received",
        run=run,
        stripe_subscription_ids=["sub_1"],
        stored={"stripe_plan": "pro"},
        live={"stripe_plan": "business"},
        money_at_risk=[{"currency": "usd", "amount": 4900}],
    )
    found()
    answer = client.get(f"{URL}/{it.pk}", headers=admin)
    assert answer.status_code == 200
    told = answer.json
    assert (told["id"], told["orgId"], told["kind"], told["state"]) == (
        str(it.pk),
        str(it.organization),
        "status",
        "open",
    )
    assert (told["stored"], told["live"]) == ({"stripePlan": "pro"}, {"stripePlan": "business"})
    assert (told["cause"], told["moneyAtRisk"]) == ("never_received", [{"currency": "usd", "amount": 4900}])
    assert (told["reconciliationId"], told["firstSeenAt"]) == (str(run), iso(it.first_seen_at))


def test_it_is_what_the_list_shows(client, admin, found):
    it = found()
    [listed] = client.get(URL, headers=admin).json["items"]
    assert client.get(f"{URL}/{it.pk}", headers=admin).json == listed
    assert listed["reconciliationId"] is None


def test_an_unknown_one_is_404(client, admin):
    answer = client.get(f"{URL}/{ObjectId()}", headers=admin)
    assert (answer.status_code, answer.json["code"]) == (404, "finding_not_found")


def test_it_needs_a_token(client):
    assert client.get(f"{URL}/{ObjectId()}").status_code == 401


def test_it_needs_the_permission(client, token, found):
    it = found()
    assert client.get(f"{URL}/{it.pk}", headers=token("service")).json["code"] == "forbidden"
    assert client.get(f"{URL}/{it.pk}", headers=token("auditor")).status_code == 200


@pytest.mark.parametrize("wrong", ["1", "x" * 24, "[$ne]"])
def test_it_rejects_bad_input(client, admin, wrong):
    answer = client.get(f"{URL}/{wrong}", headers=admin)
    assert (answer.status_code, list(answer.json["errors"])) == (422, ["findingId"])
    answer = client.get(f"{URL}/{ObjectId()}?state=open", headers=admin)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request")
