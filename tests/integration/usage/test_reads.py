"""Nothing that usage asks of MongoDB reads more than it needs, however many organizations and records there are."""

from datetime import timedelta

import pytest
from bson import ObjectId
from mongoengine.connection import get_db

from billing_service.documents import ExtraBalance, UsageRecord, UsageWeek, week_of
from billing_service.jobs.weekly_reset import weekly_reset

ROWS = 2_000


@pytest.fixture
def others(app, clock):
    """Thousands of other organizations' weeks, records and balances."""
    people = [ObjectId() for _ in range(ROWS)]
    UsageWeek._get_collection().insert_many([UsageWeek.fresh(each, 1_000, clock.at) for each in people])
    ExtraBalance._get_collection().insert_many([{"_id": each, "units": -1} for each in people])
    record = {"units": 1, "week": week_of(clock.at), "expires_at": clock.at + timedelta(days=3_000)}
    UsageRecord._get_collection().insert_many(
        [{"organization": each, "key": "k", "at": clock.at, **record} for each in people]
    )


def profiled(work):
    database = get_db()
    database.command("profile", 2)
    try:
        work()
    finally:
        database.command("profile", 0)
        seen = [each for each in database.system.profile.find() if "planSummary" in each]
        database.system.profile.drop()
    return [each for each in seen if not each["ns"].endswith("system.profile")]


def test_recording_and_asking_read_by_index(others, user, clock, client, token):
    it, headers = user("free"), token("service")
    it.use("last week", 1_200, clock.at - timedelta(days=7))
    it.gets(50, "topup:cs_1")

    def work():
        for key, units in (("first use", 1), ("within", 1), ("beyond", 2_000), ("within", 1)):
            body = {"orgId": str(it.org_id), "key": key, "units": units}
            assert client.post("/api/billing/usage", json=body, headers=headers).status_code == 200
        assert client.get(f"/api/billing/entitlements/{it.org_id}", headers=headers).status_code == 200

    seen = profiled(work)
    assert len(seen) > 15
    assert [(each["ns"], each["command"]) for each in seen if "COLLSCAN" in each["planSummary"]] == []
    assert max(each.get("docsExamined", 0) for each in seen) <= 3


def test_the_reset_reads_by_index(others, user, clock):
    people = [user("pro", last_reset_at=clock.at - timedelta(days=7)) for _ in range(20)]
    for it in people[:5]:
        it.use("last week", 500_100, clock.at - timedelta(days=7))
    seen = profiled(lambda: weekly_reset())
    assert len(seen) > 15
    assert [(each["ns"], each["command"]) for each in seen if "COLLSCAN" in each["planSummary"]] == []
    assert max(each.get("docsExamined", 0) for each in seen) <= 2 * len(people)
