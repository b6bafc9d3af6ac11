"""Pausing dispatch: what is stored, what is told, and the command line."""

import json
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta

import pytest
from mongoengine.connection import get_db

from billing_service.documents import AdminAction, DispatchPause, OutboxSignal, WebhookEvent, database_now
from billing_service.webhooks import ledger, pauses
from billing_service.webhooks.pauses import Pause, Pauses

TYPE = "customer.subscription.updated"
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
COMMAND = [sys.executable, "-c", "from billing_service.cli import main; main()"]


def test_nothing_is_paused_at_first(app):
    assert pauses.current() == Pauses()
    assert (pauses.current().everything, pauses.current().types) == (False, frozenset())
    assert not pauses.current().hold(TYPE)


def test_a_pause_of_all_is_stored_with_who_and_why(app):
    done = pauses.pause(None, by="ada", note="bad deploy", now=NOW)
    assert done.answer["changed"] is True
    found = pauses.current()
    assert found.entries == (Pause(None, NOW, "ada", "bad deploy"),)
    assert (found.everything, found.types, found.hold("any.type")) == (True, frozenset(), True)


def test_a_pause_of_a_type_holds_that_type(app):
    pauses.pause(TYPE, by="ada", note=None, now=NOW)
    pauses.pause("invoice.paid", by="ada", note=None, now=NOW + timedelta(seconds=1))
    found = pauses.current()
    assert (found.everything, found.types) == (False, {TYPE, "invoice.paid"})
    assert (found.hold(TYPE), found.hold("charge.refunded")) == (True, False)
    assert [each.since for each in found.entries] == [NOW, NOW + timedelta(seconds=1)]


def test_twice_is_once(app):
    pauses.pause(TYPE, by="ada", note="first", now=NOW)
    again = pauses.pause(TYPE, by="bob", note="second", now=NOW + timedelta(hours=2))
    assert again.answer["changed"] is False
    assert pauses.current().entries == (Pause(TYPE, NOW, "ada", "first"),)
    assert pauses.resume(TYPE, by="bob").answer["changed"] is True
    assert pauses.resume(TYPE, by="bob").answer["changed"] is False
    assert DispatchPause.objects(type__gt="").count() == 0


def test_lifting_one_leaves_the_others(app):
    for event_type in (None, TYPE, "invoice.paid"):
        pauses.pause(event_type, by="ada", note=None, now=NOW)
    left = pauses.resume(None, by="ada")
    assert {each["type"] for each in left.answer["pauses"]} == {TYPE, "invoice.paid"}
    pauses.resume(TYPE, by="ada")
    assert (pauses.current().everything, pauses.current().types) == (False, {"invoice.paid"})


def test_what_joins_the_transaction_undoes_it(app):
    def fail(outcome):
        raise RuntimeError("the audit row could not be written")

    with pytest.raises(RuntimeError):
        pauses.pause(None, by="ada", note=None, now=NOW, also=fail)
    assert pauses.current() == Pauses()
    pauses.pause(None, by="ada", note=None, now=NOW)
    with pytest.raises(RuntimeError):
        pauses.resume(None, by="ada", also=fail)
    assert pauses.current().everything


def test_many_at_once_pause_once(app):
    done = []

    def pause(number):
        done.append(pauses.pause(None, by=f"admin-{number}", note=None, now=NOW).answer["changed"])

    threads = [threading.Thread(target=pause, args=[number]) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == [False] * 5 + [True]


def test_asking_is_a_read_by_index(app):
    pauses.pause(None, by="ada", note=None, now=NOW)
    database = get_db()
    database.command("profile", 2)
    pauses.current()
    database.command("profile", 0)
    seen = [each["planSummary"] for each in database.system.profile.find({"ns": f"{database.name}.dispatch_pauses"})]
    database.system.profile.drop()
    assert seen == ["IXSCAN { _id: 1 }"]


def test_what_is_paused_is_received_all_the_same(app, deliver, event_of, row):
    pauses.pause(None, by="ada", note=None, now=NOW)
    event = event_of(TYPE)
    assert deliver(event).status_code == 200
    assert row(event["id"]).state == "received"
    assert pauses.waiting(pauses.current().entries[0]) == 1


def test_only_what_waits_is_counted(app, deliver, event_of, row):
    for kind in (TYPE, TYPE, "customer.subscription.deleted"):
        deliver(event_of(kind))
    settled = event_of(TYPE)
    deliver(settled)
    row(settled["id"]).update(set__state="succeeded")
    assert pauses.waiting(Pause(TYPE, NOW, "ada", None)) == 2
    assert pauses.waiting(Pause(None, NOW, "ada", None)) == 3


def signals():
    return list(OutboxSignal.objects(name="dispatch_paused").order_by("created_at"))


def test_a_long_pause_is_told_once_an_hour_old_and_then_each_day(app):
    pauses.pause(TYPE, by="ada", note="bad deploy", now=NOW)
    assert pauses.warn_of_long_pauses(NOW + timedelta(minutes=59)) == 0
    assert pauses.warn_of_long_pauses(NOW + timedelta(minutes=60)) == 1
    for hours in (1, 5, 23.9):
        assert pauses.warn_of_long_pauses(NOW + timedelta(hours=hours)) == 0
    assert pauses.warn_of_long_pauses(NOW + timedelta(hours=24)) == 1
    assert pauses.warn_of_long_pauses(NOW + timedelta(hours=25)) == 0
    first, second = signals()
    assert first.facts == {"type": TYPE, "since": NOW, "by": "ada", "note": "bad deploy", "hours": 1}
    assert second.facts["hours"] == 24
    assert first.key != second.key


def test_each_pause_is_told_of_and_a_lifted_one_no_more(app):
    pauses.pause(None, by="ada", note=None, now=NOW)
    pauses.pause(TYPE, by="ada", note=None, now=NOW)
    assert pauses.warn_of_long_pauses(NOW + timedelta(hours=2)) == 2
    pauses.resume(TYPE, by="ada")
    pauses.pause(TYPE, by="ada", note=None, now=NOW + timedelta(hours=2))
    pauses.resume(None, by="ada")
    assert pauses.warn_of_long_pauses(NOW + timedelta(hours=2, minutes=30)) == 0
    # A pause of its own, though of the same type.
    assert pauses.warn_of_long_pauses(NOW + timedelta(hours=3)) == 1
    assert len({each.key for each in signals()}) == 3


@pytest.fixture
def run(command_line):
    return lambda *arguments, **changes: command_line("dispatch", *arguments, **changes)


def test_pausing_and_resuming_from_the_command_line(run, deliver, event_of):
    assert run("status")[:2] == (0, "running\n")
    code, said, log = run("pause", "--note", "bad deploy", "--actor", "ada")
    assert code == 0
    assert said.startswith("all events: paused\npaused: all events since ")
    assert "dispatch_paused" in log
    deliver(event_of(TYPE))
    code, said, _ = run("status")
    assert code == 1
    assert said.endswith("by ada, waiting: 1: bad deploy\n")
    assert run("pause")[1].startswith("all events: was paused already\n")
    code, said, log = run("resume", "--actor", "bob", "--json")
    assert (code, json.loads(said)) == (0, {"type": None, "changed": True, "pauses": []})
    assert "dispatch_resumed" in log
    assert run("resume")[:2] == (0, "all events: was not paused\n")
    assert run("status", "--json")[:2] == (0, '{"pauses": []}\n')


def test_a_type_is_paused_by_its_name(run):
    code, said, _ = run("pause", "--type", TYPE, "--json")
    assert (code, json.loads(said)["pauses"][0]["type"]) == (0, TYPE)
    code, said, _ = run("resume")
    assert (code, said.splitlines()[0]) == (0, "all events: was not paused")
    assert said.splitlines()[1].startswith(f"paused: {TYPE} since ")
    assert run("resume", "--type", TYPE)[1] == f"{TYPE}: resumed\n"
    code, said, error = run("pause", "--type", "customer.subscription.updatde")
    assert (code, said) == (2, "")
    assert "webhook-types" in error


def test_it_is_told_in_the_audit_log(run):
    run("pause", "--type", TYPE, "--note", "why", "--actor", "ada")
    run("resume", "--type", TYPE, "--actor", "bob")
    rows = AdminAction.objects.order_by("id")
    assert [(row.action, row.phase, row.actor, row.target, row.note) for row in rows] == [
        ("dispatch_pause", "intent", "ada", TYPE, "why"),
        ("dispatch_pause", "outcome", "ada", TYPE, "why"),
        ("dispatch_resume", "intent", "bob", TYPE, None),
        ("dispatch_resume", "outcome", "bob", TYPE, None),
    ]


def test_resuming_without_redis_still_lifts_the_pause(run):
    pauses.pause(None, by="ada", note=None, now=NOW)
    code, said, error = run("resume", REDIS_URL="redis://127.0.0.1:1")
    assert (code, said) == (0, "all events: resumed\n")
    assert "the sweep takes the waiting events up" in error


@pytest.mark.parametrize("command", ["pause", "resume", "status"])
def test_every_command_explains_itself_and_its_exit_codes(command):
    done = subprocess.run(
        [*COMMAND, "dispatch", command, "--help"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0
    assert "Exit codes: 0" in " ".join(done.stdout.split())


def test_what_is_paused_is_not_taken_up_until_it_is_resumed(app, deliver, event_of):
    held, other = event_of(TYPE), event_of("customer.subscription.deleted")
    deliver(held)
    deliver(other)
    pauses.pause(TYPE, by="ada", note=None, now=NOW)
    pauses.pause(None, by="ada", note=None, now=NOW)
    assert (ledger.has_due(), ledger.claim(5)) == (False, [])
    pauses.resume(None, by="ada")
    assert [each.event_id for each in ledger.claim(5)] == [other["id"]]
    assert ledger.has_due() is False
    pauses.resume(TYPE, by="ada")
    assert ledger.has_due() is True
    assert [each.event_id for each in ledger.claim(5)] == [held["id"]]


def test_what_is_paused_wakes_nobody_again_and_again(app):
    now = database_now()
    for number, (kind, seconds) in enumerate([("invoice.paid", -5), ("invoice.paid", 30), ("customer.deleted", 60)]):
        WebhookEvent(
            event_id=f"evt_{number}",
            type=kind,
            created=now,
            received_at=now,
            source="delivery",
            state="failed",
            next_attempt_at=now + timedelta(seconds=seconds),
        ).save()
    assert 25 < ledger.seconds_to_next() < 30
    assert ledger.count_due() == 1
    pauses.pause("invoice.paid", by="ada", note=None, now=now)
    assert 55 < ledger.seconds_to_next() < 60
    assert (ledger.count_due(), ledger.has_due()) == (0, False)
    pauses.pause(None, by="ada", note=None, now=now)
    assert ledger.seconds_to_next() is None
