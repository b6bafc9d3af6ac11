"""GET /webhook/replay-batch/{batchId}"""

import pytest

URL = "/api/admin/billing/webhook/replay-batch"


def test_it_works(client, admin, batch):
    shown = client.get(f"{URL}/{batch.pk}", headers=admin)
    assert shown.status_code == 200, shown.json
    told = shown.json
    assert (told["batchId"], told["state"], told["stopReason"]) == (str(batch.pk), "stopped", "failures_in_row")
    assert (told["total"], told["done"], told["succeeded"], told["failed"], told["skipped"]) == (12, 4, 2, 2, 0)
    assert (told["actor"], told["note"], told["stopAfter"], told["waitingFor"]) == ("ada@example.com", "again", 2, None)
    assert told["filter"]["orgId"] == "7" * 24
    assert told["filter"]["receivedFrom"].endswith("Z")


def test_it_needs_a_token(client):
    assert client.get(f"{URL}/{'6' * 24}").status_code == 401


def test_it_needs_the_permission(client, token, batch):
    assert client.get(f"{URL}/{batch.pk}", headers=token("service")).status_code == 403
    assert client.get(f"{URL}/{batch.pk}", headers=token("auditor")).status_code == 200


@pytest.mark.parametrize("path", ["x", "6" * 23, "$where", f"{'6' * 24}?x=1"])
def test_it_rejects_bad_input(client, admin, path):
    assert client.get(f"{URL}/{path}", headers=admin).status_code == 422


def test_an_unknown_one_is_404(client, admin, app):
    answer = client.get(f"{URL}/{'6' * 24}", headers=admin)
    assert (answer.status_code, answer.json["code"]) == (404, "batch_not_found")
