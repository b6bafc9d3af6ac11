"""How long things are kept: as docs/retention.md says, by indexes that are there, and by MongoDB itself."""

import re
import time
from datetime import timedelta
from pathlib import Path

import pytest
from mongoengine.connection import get_db

from billing_service import operations, reconciliation
from billing_service.documents import (
    DOCUMENTS,
    AdminAction,
    AdminOperation,
    Finding,
    JobRun,
    OutboxSignal,
    ReconciliationRun,
    UsageRecord,
    WebhookEvent,
)
from billing_service.documents.finding import RESOLVED_KEPT
from billing_service.importing import listing as import_listing
from billing_service.importing import run as import_run
from billing_service.jobs import runs, tick
from billing_service.outbox import storing
from billing_service.reconciliation import holding
from billing_service.reconciliation import run as running
from billing_service.stripe_gateway import VerifiedEvent
from billing_service.usage import recording
from billing_service.webhooks import batches, intake, ledger, reading

ROOT = Path(__file__).parents[2]
DAY = timedelta(days=1)
# What the words of the document are in the code.
KEPT = {
    "90 days from then": ledger.KEPT,
    "1 year after they were resolved; open ones until then": RESOLVED_KEPT,
    "1 year": (running.KEPT, batches.KEPT, import_run.KEPT),
    "30 days": (holding.CANDIDATES_KEPT, import_listing.ITEMS_KEPT),
    "5 years": operations.AUDIT_KEPT,
    "24 hours; unknown ones until they are known": operations.KEPT,
    "90 days": storing.KEPT,
    "30 days, those of the sweep 1 day": (runs.KEPT, tick.KEPT_SHORTLY),
    "35 days": recording.KEPT,
}
UNITS = {"hour": timedelta(hours=1), "day": DAY, "year": 365 * DAY}


def rows():
    """(collections, how long, index) of each line of the document."""
    lines = (ROOT / "docs" / "retention.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")]
    return [(re.findall(r"`(\w+)`", names), kept, index.strip("`")) for names, _, kept, index in cells]


def test_the_document_has_every_collection():
    assert {name for names, _, _ in rows() for name in names} == {each._get_collection_name() for each in DOCUMENTS}


def test_the_document_says_what_the_code_does():
    for words, constants in KEPT.items():
        told = [int(number) * UNITS[unit] for number, unit in re.findall(r"(\d+) (hour|day|year)s?", words)]
        wanted = constants if isinstance(constants, tuple) else (constants,)
        assert sorted(set(told)) == sorted(set(wanted)), words
        assert any(kept == words for _, kept, _ in rows()), words


def test_its_indexes_are_there_and_no_others_delete(app):
    declared = {(name, index) for names, _, index in rows() if index for name in names}
    there = set()
    for name in get_db().list_collection_names():
        for index, facts in get_db()[name].index_information().items():
            if "expireAfterSeconds" in facts:
                assert facts["expireAfterSeconds"] == 0
                assert facts["key"] == [("expires_at", 1)]
                there.add((name, index))
    assert there == declared
    partial = get_db().webhook_events.index_information()["expires"]["partialFilterExpression"]
    assert partial == {"state": {"$in": ["succeeded", "closed"]}}


def test_a_finding_is_resolved_in_one_way():
    """Who forgot to let it expire would keep it for ever."""
    writers = [path for path in (ROOT / "billing_service").rglob("*.py") if 'set__state="resolved"' in path.read_text()]
    assert writers == []
    assert '"set__state": "resolved"' in (ROOT / "billing_service" / "documents" / "finding.py").read_text()


@pytest.fixture
def quick_monitor(app):
    """MongoDB looks for what has expired each second."""
    admin = get_db().client.admin
    before = admin.command({"getParameter": 1, "ttlMonitorSleepSecs": 1})["ttlMonitorSleepSecs"]
    admin.command({"setParameter": 1, "ttlMonitorSleepSecs": 1})
    # A monitor that sleeps sleeps on.
    yield
    admin.command({"setParameter": 1, "ttlMonitorSleepSecs": before})


def test_what_has_expired_goes_and_nothing_else(quick_monitor, runtime):
    now = runtime.clock()
    expiring = {name for names, _, index in rows() if index for name in names}
    for name in expiring:
        for label, at in (("over", now - DAY), ("not yet", now + DAY), ("open", None)):
            states = intake_states() if name == "webhook_events" else ("any",)
            for state in states:
                get_db()[name].insert_one(unique_row(name, f"{label}-{state}") | {"state": state, "expires_at": at})
    deadline = time.monotonic() + 75
    while left(expiring, "over-any") or left({"webhook_events"}, "over-succeeded", "over-closed"):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    for name in expiring - {"webhook_events"}:
        assert left({name}, "not yet-any", "open-any") == 2, name
    assert left({"webhook_events"}, *(f"over-{state}" for state in intake_states())) == 4
    assert left({"webhook_events"}, *(f"not yet-{state}" for state in intake_states())) == 6


def intake_states():
    from billing_service.documents.webhook_event import STATES

    return STATES


def unique_row(name, label):
    """A row that collides with no other in any unique index."""
    unique = [facts["key"] for facts in get_db()[name].index_information().values() if facts.get("unique")]
    return {"_id": label} | {field: label for key in unique for field, _ in key if field != "active"}


def left(names, *labels):
    return sum(get_db()[name].count_documents({"_id": {"$in": list(labels)}}) for name in names)


def test_what_comes_to_its_end_gets_its_time(client, admin, billed, runtime, sandbox, stripe):
    now, it = runtime.clock(), billed("pro", stored=False)

    def about(row, kept):
        return abs((row.expires_at - now) - kept) < timedelta(minutes=2)

    assert client.post(f"/api/admin/billing/sync/{it.org_id}", headers=admin).status_code == 200
    assert all(about(row, 5 * 365 * DAY) for row in AdminAction.objects(organization=it.org_id))
    assert about(AdminOperation.objects(organization=it.org_id).first(), DAY)
    assert about(OutboxSignal.objects(name="plan_changed").first(), 90 * DAY)
    raw = {"id": "evt_1", "type": "payout.paid", "created": 1, "data": {"object": {}}}
    intake.receive(VerifiedEvent(raw), b"{}", livemode=False, now=now)
    assert about(WebhookEvent.objects(event_id="evt_1").first(), 90 * DAY)
    dead = WebhookEvent(
        event_id="evt_2", type="x", state="dead", created=now, received_at=now, source="delivery"
    ).save()
    assert dead.expires_at is None
    reading.close("evt_2", by="ada", note=None, also=lambda outcome: None)
    assert about(WebhookEvent.objects(event_id="evt_2").first(), 90 * DAY)
    runs.claim("dunning", "20261125T0300")
    assert about(JobRun.objects(job="dunning").first(), 30 * DAY)


def test_findings_and_runs_are_kept_for_a_year(client, admin, billed, runtime):
    now, it = runtime.clock(), billed("pro")
    path = "/api/admin/billing"
    finding = Finding(
        fingerprint=f"plan:{it.org_id}", kind="plan", severity="medium", organization=it.org_id, state="open",
        first_seen_at=now - DAY, last_seen_at=now - DAY,
    ).save()  # fmt: skip
    assert finding.expires_at is None
    started = reconciliation.start("cli", now, actor="ada", organization=it.org_id)
    assert abs(ReconciliationRun.objects(id=started.pk).first().expires_at - now - 365 * DAY) < timedelta(minutes=2)
    from billing_service.jobs.reconcile import desk

    with client.application.app_context():
        while reconciliation.find_run(started.pk).active:
            reconciliation.go_on(desk(lambda run: None), lambda: False)
    assert client.get(f"{path}/findings/{finding.pk}", headers=admin).json["state"] == "resolved"
    finding.reload()
    assert finding.expires_at - finding.resolved_at == 365 * DAY


def test_usage_is_remembered_by_its_key_for_five_weeks(client, token, billed, runtime):
    it = billed("pro")
    asked = {"orgId": str(it.org_id), "key": "one", "units": 5}
    assert client.post("/api/billing/usage", json=asked, headers=token("service")).status_code == 200
    row = UsageRecord.objects(organization=it.org_id).first()
    assert row.expires_at - row.at == 35 * DAY
