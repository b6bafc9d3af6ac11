"""GET /api/admin/billing/plans"""

URL = "/api/admin/billing/plans"


def test_it_works(client, admin, runtime):
    answer = client.get(URL, headers=admin)
    assert answer.status_code == 200
    assert [each["id"] for each in answer.json["items"]] == [each.id for each in runtime.plans.plans]
    free, *_, last = answer.json["items"]
    assert free == {
        "id": "free",
        "name": "Free",
        "weeklyQuota": runtime.plans.plans[0].weekly_quota,
        "prices": [],
    }
    assert last["prices"] == list(runtime.plans.plans[-1].prices)


def test_it_needs_a_token(client):
    assert client.get(URL).status_code == 401


def test_it_needs_the_permission(client, token):
    assert client.get(URL, headers=token("service")).status_code == 403
    assert client.get(URL, headers=token("auditor")).status_code == 200


def test_it_rejects_bad_input(client, admin):
    answer = client.get(f"{URL}?id=pro", headers=admin)
    assert (answer.status_code, answer.json["errors"]) == (422, {"id": ["Unknown field."]})


def test_it_answers_while_stripe_is_down(client, admin, sandbox):
    sandbox.arm("error", status=500, times=None)
    assert client.get(URL, headers=admin).status_code == 200
