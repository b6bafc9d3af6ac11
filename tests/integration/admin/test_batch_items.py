"""GET /webhook/replay-batch/{batchId}/items"""

import pytest

URL = "/api/admin/billing/webhook/replay-batch"


def test_it_works(client, admin, batch):
    seen, cursor = [], ""
    while cursor is not None:
        answer = client.get(f"{URL}/{batch.pk}/items?limit=5{cursor and f'&cursor={cursor}'}", headers=admin).json
        seen += [each["position"] for each in answer["items"]]
        cursor = answer["nextCursor"]
    assert seen == list(range(12))
    failed = client.get(f"{URL}/{batch.pk}/items?state=failed", headers=admin).json
    assert [each["eventId"] for each in failed["items"]] == ["evt_B2", "evt_B3"]
    assert failed["items"][0]["errorMessage"] == "not [masked]"


def test_items_are_read_by_index(client, admin, batch):
    from mongoengine.connection import get_db

    database = get_db()
    for query in ("limit=3", "limit=3&cursor=after-4", "state=pending&limit=3", "state=failed&cursor=after-2"):
        database.command("profile", 2)
        assert client.get(f"{URL}/{batch.pk}/items?{query}", headers=admin).status_code == 200
        database.command("profile", 0)
        (seen,) = database.system.profile.find({"ns": f"{database.name}.replay_items"})
        database.system.profile.drop()
        assert seen["planSummary"].startswith("IXSCAN"), query
        assert seen["docsExamined"] <= 4, query
        assert "hasSortStage" not in seen, query


def test_it_needs_a_token(client):
    assert client.get(f"{URL}/{'6' * 24}/items").status_code == 401


def test_it_needs_the_permission(client, token, batch):
    path = f"{URL}/{batch.pk}/items"
    assert client.get(path, headers=token("service")).status_code == 403
    assert client.get(path, headers=token("auditor")).status_code == 200


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "cursor=forged", "cursor=after-", "cursor=after--1", "state=x"]
)
def test_it_rejects_bad_input(client, admin, batch, query):
    answer = client.get(f"{URL}/{batch.pk}/items?{query}", headers=admin)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request")


def test_an_unknown_batch_is_404(client, admin, app):
    answer = client.get(f"{URL}/{'6' * 24}/items", headers=admin)
    assert (answer.status_code, answer.json["code"]) == (404, "batch_not_found")
    assert client.get(f"{URL}/x/items", headers=admin).status_code == 422
