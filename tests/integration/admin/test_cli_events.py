"""`billing-service events tail` and `dead-letters list|show|close`, as operators run them."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta

import pytest
from bson import ObjectId

from billing_service.documents import AdminAction, Attempt, WebhookEvent

COMMAND = [sys.executable, "-c", "from billing_service.cli import main; main()"]


@pytest.fixture
def run(command_line):
    return command_line


@pytest.mark.parametrize(
    "command",
    ["events", "events tail", "dead-letters", "dead-letters list", "dead-letters show", "dead-letters close"],
)
def test_every_command_explains_itself_and_its_exit_codes(command):
    words = command.split()
    done = subprocess.run([*COMMAND, *words, "--help"], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    if len(words) == 2:
        assert "Exit codes: 0" in " ".join(done.stdout.split())


def test_dead_letters_are_listed_as_the_endpoint_lists_them(run, client, admin, dead, organization, runtime):
    org_id = organization(name="Fjord \x1b[2JCartography")
    old = dead(organization=org_id, type="invoice.paid", created=runtime.clock() - timedelta(days=31))
    new = dead(reason="wrong_mode", fingerprint="KeyError: #")
    code, said, _ = run("dead-letters", "list")
    first, second, total = said.splitlines()
    assert code == 0
    assert new.event_id in first
    for word in (
        old.event_id,
        "invoice.paid",
        "age 31d",
        "no longer at Stripe",
        f"org {org_id} Fjord",
        "handler_failed",
    ):
        assert word in second
    assert "ValueError: no plan for [masked]" in second
    assert total == "2 of 2 dead letters"
    listed = json.loads(run("dead-letters", "list", "--limit", "1", "--json")[1])
    answered = client.get("/api/admin/billing/dead-letters?limit=1", headers=admin).json
    for each in (listed, answered):
        each["items"][0].pop("age")
    assert listed == answered
    for option, value in (("--type", "invoice.paid"), ("--org", str(org_id)), ("--reason", "handler_failed")):
        found = json.loads(run("dead-letters", "list", option, value, "--json")[1])
        assert [each["eventId"] for each in found["items"]] == [old.event_id]
    code, said, _ = run("dead-letters", "list", "--fingerprint", "KeyError: ##")
    assert (code, said) == (0, "0 of 0 dead letters\n")


def test_an_event_is_shown_masked_unless_asked(run, dead):
    event = dead()
    code, said, _ = run("dead-letters", "show", event.event_id)
    assert code == 0
    assert "jenny" not in said.lower()
    for word in (f"eventId: {event.event_id}", "state: dead", "attempts: 5", "ValueError: no plan for [masked]"):
        assert word in said
    code, said, _ = run("dead-letters", "show", event.event_id, "--payload", "--json")
    assert code == 0
    assert json.loads(said)["payload"] == json.loads(event.payload)
    code, said, error = run("dead-letters", "show", "evt_unknown")
    assert (code, said, error.split(":")[0]) == (1, "", "event_not_found")
    assert run("dead-letters", "show", "sub_1")[0] == 2


def test_what_a_message_holds_does_not_reach_the_terminal(run, dead, runtime):
    line = Attempt(at=runtime.clock(), error_class="E", error_message="a\x1b[2Jb\nc\u202ed")
    event = dead(history=[line], payload=json.dumps({"name": "\x1b[2J\u202e"}))
    for arguments in (("list",), ("show", event.event_id, "--payload")):
        code, said, _ = run("dead-letters", *arguments)
        assert code == 0
        assert "\x1b" not in said
        assert "\u202e" not in said
        assert r"E: a\x1b[2Jb\x0ac" in said


def test_a_dead_letter_is_closed_once_and_recorded(run, dead):
    event = dead(organization=ObjectId())
    code, said, _ = run("dead-letters", "close", event.event_id, "--note", "ours", "--dry-run")
    assert (code, said) == (0, f"{event.event_id} would be closed\n")
    assert len(AdminAction.objects) == 0
    code, said, _ = run("dead-letters", "close", event.event_id, "--note", "ours", "--actor", "ada", "--json")
    assert (code, json.loads(said)["purged"], json.loads(said)["closed"]["by"]) == (0, True, "ada")
    stored = WebhookEvent.objects(event_id=event.event_id).first()
    assert (stored.state, stored.closed.by, stored.closed.note) == ("closed", "ada", "ours")
    rows = AdminAction.objects(action="close_dead_letter", organization=event.organization, actor="ada", note="ours")
    assert [row.phase for row in rows.order_by("id")] == ["intent", "outcome"]
    code, said, _ = run("dead-letters", "close", event.event_id, "--note", "again")
    assert (code, said) == (0, f"{event.event_id} was closed already\n")


def test_what_cannot_be_closed_is_told(run, recorded):
    event = recorded()
    code, said, error = run("dead-letters", "close", event.event_id, "--note", "x")
    assert (code, said, error.split(":")[0]) == (1, "", "not_dead")
    assert run("dead-letters", "close", "evt_unknown", "--note", "x")[0] == 1
    for note in ([], ["--note", ""], ["--note", "a\x1bb"]):
        assert run("dead-letters", "close", event.event_id, *note)[0] == 2


def test_the_tail_shows_the_newest_last(run, recorded, dead, organization):
    org_id = organization(name="Fjord Cartography")
    events = [
        recorded(organization=org_id),
        recorded(type="invoice.paid", state="succeeded", outcome="applied"),
        dead(),
    ]
    code, said, _ = run("events", "tail")
    lines = said.splitlines()
    assert code == 0
    assert [event.event_id in line for event, line in zip(events, lines, strict=True)] == [True] * 3
    assert f"org {org_id} Fjord Cartography" in lines[0]
    assert "succeeded/applied" in lines[1]
    assert "dead/handler_failed" in lines[2]
    assert "ValueError: no plan for [masked]" in lines[2]
    found = [json.loads(line) for line in run("events", "tail", "-n", "2", "--json")[1].splitlines()]
    assert [(each["eventId"], each["orgName"]) for each in found] == [(each.event_id, None) for each in events[1:]]
    for option, value, number in (("--org", str(org_id), 0), ("--type", "invoice.paid", 1), ("--state", "dead", 2)):
        said = run("events", "tail", option, value)[1]
        assert [line.split()[1] for line in said.splitlines()] == [events[number].event_id]
    assert run("events", "tail", "--state", "gone")[0] == 2
    assert run("events", "tail", "--org", "1")[0] == 2


def test_the_tail_follows_what_arrives_until_it_is_interrupted(app, environment, recorded, runtime):
    first = recorded(received_at=runtime.clock())
    lines = []
    # Whoever runs the tests in the background has it ignored, and children inherit that.
    interruptible = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler); {COMMAND[-1]}"
    child = subprocess.Popen(
        [*COMMAND[:-1], interruptible, "events", "tail", "--follow", "--type", "customer.subscription.updated"],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    reader = threading.Thread(target=lambda: lines.extend(iter(child.stdout.readline, "")))
    reader.start()

    def wait_for(count):
        deadline = time.monotonic() + 30
        while len(lines) < count:
            assert time.monotonic() < deadline, lines
            time.sleep(0.05)

    try:
        wait_for(1)
        late = runtime.clock()
        second = recorded(received_at=late)
        recorded(received_at=late, type="invoice.paid")
        wait_for(2)
        # Of another process, whose clock is behind.
        third = recorded(received_at=late - timedelta(seconds=20))
        wait_for(3)
        time.sleep(1.5)
        child.send_signal(signal.SIGINT)
        assert child.wait(10) == 0
    finally:
        child.kill()
        child.wait()
        reader.join()
        error = child.stderr.read()
        child.stdout.close()
        child.stderr.close()
    assert [line.split()[1] for line in lines] == [each.event_id for each in (first, second, third)]
    assert "Traceback" not in error


def test_the_store_away_is_told(run):
    away = {"MONGODB_URI": "mongodb://127.0.0.1:1/billing"}
    code, said, error = run("dead-letters", "list", **away)
    assert (code, said, error.splitlines()[-1].split(":")[0]) == (1, "", "store_unavailable")
