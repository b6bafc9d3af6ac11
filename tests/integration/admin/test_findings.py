"""GET /api/admin/billing/findings"""

import csv
import io
from datetime import UTC, datetime, timedelta

import pytest
from bson import ObjectId
from mongoengine.connection import get_db

from billing_service.documents import Finding

URL = "/api/admin/billing/findings"
START = datetime(2026, 1, 1, tzinfo=UTC)
ORGANIZATIONS = [ObjectId(f"{number:024x}") for number in range(1, 101)]
KINDS = ["status"] * 6 + ["plan"] * 3 + ["customer"]
RUNS = [ObjectId(f"{number:024x}") for number in range(201, 208)]
SEVERITIES = ["medium"] * 8 + ["critical", "info"]
STATES = ["resolved"] * 8 + ["open", "acknowledged"]


def finding(number):
    at = START + timedelta(minutes=number // 2)
    return {
        "fingerprint": f"{number}",
        "kind": KINDS[number * 7 % 10],
        "severity": SEVERITIES[number * 3 % 10],
        "cause": "unknown",
        "organization": ORGANIZATIONS[number % 100],
        "stripe_subscription_ids": [f"sub_{number}"],
        "stored": {"status": "active"},
        "live": {"status": "canceled"},
        "run": RUNS[number % 7],
        "first_seen_at": at,
        "last_seen_at": START + timedelta(days=300),
        "times_seen": 3,
        "state": STATES[number // 10 % 10],
    }


@pytest.fixture
def findings(app):
    """Puts so many findings there, two in each minute."""

    def make(count):
        Finding._get_collection().insert_many([finding(number) for number in range(count)])

    return make


def ask(client, headers, query=""):
    answer = client.get(f"{URL}?{query}", headers=headers)
    assert answer.status_code == 200, answer.json
    return answer.json


def test_it_works(client, admin, findings):
    findings(25)
    answer = ask(client, admin)
    assert (len(answer["items"]), answer["total"], answer["totalIsCapped"], answer["limit"]) == (20, 25, False, 20)
    newest = answer["items"][0]
    assert newest["firstSeenAt"] == "2026-01-01T00:12:00.000Z"
    assert newest["orgId"] == str(ORGANIZATIONS[24])
    assert (newest["kind"], newest["stored"], newest["live"]) == (
        KINDS[8],
        {"status": "active"},
        {"status": "canceled"},
    )
    assert newest["stripeSubscriptionIds"] == ["sub_24"]
    assert newest["reconciliationId"] == str(RUNS[3])


def test_the_cursor_shows_each_row_once(client, admin, findings):
    findings(25)
    ids, cursor = [], ""
    while cursor is not None:
        answer = ask(client, admin, f"limit=7{cursor and '&cursor=' + cursor}")
        ids += [item["id"] for item in answer["items"]]
        cursor = answer["nextCursor"]
    assert (len(ids), len(set(ids))) == (25, 25)


FILTERS = {
    "state=open": lambda row: row["state"] == "open",
    "kind=customer": lambda row: row["kind"] == "customer",
    "severity=critical": lambda row: row["severity"] == "critical",
    f"orgId={ORGANIZATIONS[3]}": lambda row: row["organization"] == ORGANIZATIONS[3],
    f"reconciliationId={RUNS[4]}": lambda row: row["run"] == RUNS[4],
    "from=2026-01-01T00:30:00Z&to=2026-01-01T00:40:00Z": lambda row: 30 <= int(row["fingerprint"]) // 2 < 40,
    "state=resolved&severity=info": lambda row: (row["state"], row["severity"]) == ("resolved", "info"),
}


@pytest.mark.parametrize("query", FILTERS)
def test_filters(client, admin, findings, query):
    findings(200)
    wanted = [number for number in range(200) if FILTERS[query](finding(number))]
    assert wanted
    answer = ask(client, admin, f"limit=100&{query}")
    assert answer["total"] == len(wanted)
    assert {item["stripeSubscriptionIds"][0] for item in answer["items"]} == {f"sub_{each}" for each in wanted}


@pytest.mark.parametrize("query", ["", *(each for each in FILTERS if "&" not in each)])
def test_it_reads_only_what_it_shows(client, admin, findings, query):
    findings(6_000)
    database = get_db()
    database.command("profile", 2)
    answer = ask(client, admin, f"limit=3&{query}")
    database.command("profile", 0)
    seen = list(database.system.profile.find({"ns": f"{database.name}.findings"}))
    database.system.profile.drop()
    assert answer["total"] > 3
    (find,) = [each for each in seen if "find" in each["command"]]
    (count,) = [each for each in seen if "aggregate" in each["command"]]
    assert find["planSummary"].startswith("IXSCAN")
    assert (find["docsExamined"], "hasSortStage" in find) == (4, False), find
    assert count["planSummary"].startswith("IXSCAN")
    assert count["docsExamined"] == 0


def test_all_that_matches_can_be_downloaded(client, admin, findings):
    findings(150)
    answer = client.get(f"{URL}?format=csv&kind=plan", headers=admin)
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == 45
    assert {row["kind"] for row in rows} == {"plan"}
    assert rows[0]["live"] == '{"status": "canceled"}'
    assert [row["firstSeenAt"] for row in rows] == sorted((row["firstSeenAt"] for row in rows), reverse=True)


def test_it_needs_a_token(client):
    assert client.get(URL).status_code == 401


def test_it_needs_the_permission(client, token):
    assert client.get(URL, headers=token("service")).status_code == 403
    assert client.get(URL, headers=token("auditor")).status_code == 200


@pytest.mark.parametrize(
    "query",
    [
        "state=closed",
        "severity=worst",
        "kind=",
        "orgId=1",
        "reconciliationId=1",
        "reconciliationId[$ne]=1",
        "orgid=1",
        "limit=0",
        "from=now",
        "cursor=forged",
        "format=csv&limit=5",
        "format=pdf",
    ],
)
def test_it_rejects_bad_input(client, admin, query):
    answer = client.get(f"{URL}?{query}", headers=admin)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request")
    assert answer.json["errors"]
