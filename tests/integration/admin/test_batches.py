"""GET /webhook/replay-batch"""

from datetime import timedelta

import pytest
from mongoengine.connection import get_db

from billing_service.documents import ReplayBatch

URL = "/api/admin/billing/webhook/replay-batch"


@pytest.fixture
def many(batch):
    """A hundred batches, each a minute younger than the one before; every tenth of them stopped."""
    one = ReplayBatch._get_collection().find_one()
    ReplayBatch._get_collection().delete_many({})
    for number in range(100):
        one |= {"selection": str(number), "created_at": batch.created_at + timedelta(minutes=number)}
        one["state"] = "stopped" if number % 10 == 0 else "succeeded"
        ReplayBatch._get_collection().insert_one({name: value for name, value in one.items() if name != "_id"})


def test_it_works(client, admin, many):
    listed = client.get(URL, headers=admin).json
    assert (len(listed["items"]), listed["total"], listed["limit"]) == (20, 100, 20)
    times = [each["createdAt"] for each in listed["items"]]
    assert times == sorted(times, reverse=True)
    rest = client.get(f"{URL}?cursor={listed['nextCursor']}", headers=admin).json
    assert not {each["batchId"] for each in rest["items"]} & {each["batchId"] for each in listed["items"]}
    stopped = client.get(f"{URL}?state=stopped", headers=admin).json
    assert ({each["state"] for each in stopped["items"]}, stopped["total"]) == ({"stopped"}, 10)


def test_it_is_read_by_index(client, admin, many):
    database = get_db()
    for query in ("limit=3", "limit=3&state=stopped"):
        database.command("profile", 2)
        assert client.get(f"{URL}?{query}", headers=admin).status_code == 200
        database.command("profile", 0)
        mine = {"ns": f"{database.name}.replay_batches", "command.find": {"$gt": ""}}
        (seen,) = database.system.profile.find(mine)
        database.system.profile.drop()
        assert seen["planSummary"].startswith("IXSCAN"), query
        assert (seen["docsExamined"], "hasSortStage" in seen) == (4, False), query


def test_it_needs_a_token(client):
    assert client.get(URL).status_code == 401


def test_it_needs_the_permission(client, token):
    assert client.get(URL, headers=token("service")).status_code == 403
    assert client.get(URL, headers=token("auditor")).status_code == 200


@pytest.mark.parametrize("query", ["state=done", "limit=0", "cursor=forged", "orgId=x"])
def test_it_rejects_bad_input(client, admin, query):
    answer = client.get(f"{URL}?{query}", headers=admin)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request")
