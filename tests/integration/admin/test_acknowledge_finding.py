"""POST /api/admin/billing/findings/{findingId}/acknowledge"""

import threading
from datetime import timedelta

import pytest
from bson import ObjectId

from billing_service.blueprints.wire import iso
from billing_service.documents import AdminAction, Finding
from billing_service.jobs.sweep import sweep

BASE = "/api/admin/billing/findings/"


@pytest.fixture
def found(runtime, organization):
    """Makes a finding."""

    def make(state="open", **fields):
        now = runtime.clock()
        return Finding(
            fingerprint=str(ObjectId()),
            kind="status",
            severity="high",
            organization=organization(),
            first_seen_at=now,
            last_seen_at=now,
            state=state,
            **fields,
        ).save()

    return make


@pytest.fixture
def later(runtime):
    """A time so many days ahead, as on the wire."""
    return lambda days: iso((runtime.clock() + timedelta(days=days)).replace(microsecond=0))


def acknowledge(client, headers, finding_id, body, query=""):
    return client.post(f"{BASE}{finding_id}/acknowledge{query}", headers=headers, json=body)


def test_it_works(client, admin, found, later):
    finding = found()
    until = later(7)
    answer = acknowledge(client, admin, finding.pk, {"until": until, "note": "waits for finance"})
    assert answer.status_code == 200
    shown = answer.json["finding"]
    assert (shown["state"], shown["acknowledgedUntil"]) == ("acknowledged", until)
    assert (shown["acknowledgedBy"], shown["acknowledgedNote"]) == ("ada@example.com", "waits for finance")
    assert answer.json["changed"] == ["state", "acknowledgedUntil", "acknowledgedBy", "acknowledgedNote"]
    finding.reload()
    assert (finding.state, iso(finding.acknowledged_until)) == ("acknowledged", until)
    intent, outcome = AdminAction.objects.order_by("at", "id")
    assert (intent.phase, outcome.phase, outcome.outcome) == ("intent", "outcome", "succeeded")
    assert (outcome.target, outcome.organization, outcome.note) == (
        str(finding.pk),
        finding.organization,
        "waits for finance",
    )


def test_twice_is_once(client, admin, token, found, later):
    finding, until = found(), later(7)
    acknowledge(client, admin, finding.pk, {"until": until, "note": "seen"})
    again = acknowledge(client, token("admin", actor="bob@example.com"), finding.pk, {"until": until, "note": "seen"})
    assert (again.status_code, again.json["changed"]) == (200, [])
    assert finding.reload().acknowledged_by == "ada@example.com"


def test_another_time_takes_the_place_of_the_first(client, admin, found, later):
    finding = found()
    acknowledge(client, admin, finding.pk, {"until": later(7)})
    until = later(9)
    answer = acknowledge(client, admin, finding.pk, {"until": until})
    assert answer.json["changed"] == ["acknowledgedUntil"]
    assert iso(finding.reload().acknowledged_until) == until


def test_a_dry_run_writes_nothing(client, admin, found, later, frozen):
    finding = found()
    with frozen:
        answer = acknowledge(client, admin, finding.pk, {"until": later(7)}, "?dryRun=true")
    assert (answer.status_code, answer.json["dryRun"]) == (200, True)
    assert answer.json["finding"]["state"] == "acknowledged"
    assert len(AdminAction.objects) == 0


def test_a_resolved_one_is_refused(client, admin, found, later, frozen):
    finding = found("resolved", resolved_by="sync")
    with frozen:
        for query in ("", "?dryRun=true"):
            answer = acknowledge(client, admin, finding.pk, {"until": later(7)}, query)
            assert (answer.status_code, answer.json["code"]) == (409, "finding_resolved")


def test_an_unknown_one_is_404(client, admin, later):
    answer = acknowledge(client, admin, ObjectId(), {"until": later(7)})
    assert (answer.status_code, answer.json["code"]) == (404, "finding_not_found")


def test_it_is_open_again_when_its_time_has_passed(client, admin, found, later, runtime):
    finding, other = found(), found()
    acknowledge(client, admin, finding.pk, {"until": later(7)})
    acknowledge(client, admin, other.pk, {"until": later(7)})
    assert sweep()["findings_reopened"] == 0
    finding.update(set__acknowledged_until=runtime.clock() - timedelta(seconds=1))
    assert sweep()["findings_reopened"] == 1
    assert sweep()["findings_reopened"] == 0
    assert (finding.reload().state, other.reload().state) == ("open", "acknowledged")


def test_whoever_resolves_it_meanwhile_wins(app, client, admin, found, later):
    """Each finding ends resolved or was acknowledged before, never acknowledged after it was resolved."""
    findings = [found() for _ in range(20)]

    def resolve():
        with app.app_context():
            for each in findings:
                Finding.objects(id=each.pk).update_one(set__state="resolved", set__resolved_by="sync")

    thread = threading.Thread(target=resolve)
    thread.start()
    answers = [acknowledge(client, admin, each.pk, {"until": later(1)}).status_code for each in findings]
    thread.join()
    assert set(answers) <= {200, 409}
    assert {each.reload().state for each in findings} == {"resolved"}


def test_it_needs_a_token(client, found, later, frozen):
    finding = found()
    with frozen:
        assert acknowledge(client, {}, finding.pk, {"until": later(1)}).status_code == 401


def test_it_needs_the_permission(client, token, found, later, frozen):
    finding = found()
    with frozen:
        answer = acknowledge(client, token("support"), finding.pk, {"until": later(1)})
    assert (answer.status_code, answer.json["code"]) == (403, "forbidden")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"until": None},
        {"until": "tomorrow"},
        {"until": "2020-01-01T00:00:00Z"},
        {"until": "2099-01-01T00:00:00Z"},
        {"until": "2026-12-24T00:00:00"},
        {"until": {"$gt": ""}},
        {"until": "2026-12-24T00:00:00Z", "state": "resolved"},
    ],
)
def test_it_rejects_bad_input(client, admin, found, frozen, body):
    finding = found()
    with frozen:
        answer = acknowledge(client, admin, finding.pk, body)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request")
    assert answer.json["errors"]


@pytest.mark.parametrize("finding_id", ["1", "x" * 24, "[$ne]"])
def test_a_malformed_id_is_refused_by_name(client, admin, finding_id, later):
    answer = acknowledge(client, admin, finding_id, {"until": later(1)})
    assert (answer.status_code, list(answer.json["errors"])) == (422, ["findingId"])
