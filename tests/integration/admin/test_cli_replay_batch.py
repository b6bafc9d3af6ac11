"""`billing-service replay-batch`, as operators run it."""

import json
import re
import threading

import pytest

from billing_service.documents import AdminAction, ReplayBatch, WebhookEvent
from billing_service.jobs.replay_batches import replay_batches

TYPE = "customer.subscription.created"


@pytest.fixture
def run(command_line):
    return lambda *arguments, **changes: command_line("replay-batch", *arguments, **changes)


@pytest.fixture
def worker(wired):
    """Carries on with batches, as a worker would, until the test ends."""
    done = threading.Event()

    def poll():
        with wired.app_context():
            while not done.wait(0.1):
                replay_batches()

    thread = threading.Thread(target=poll)
    thread.start()
    yield
    done.set()
    thread.join()


def test_it_works(run, lost, worker):
    made = lost(3)
    code, out, err = run("run", "--type", TYPE)
    assert (code, err) == (0, "")
    assert [event_id for _, event_id in made] == re.findall(r"evt_\w+", out)
    assert "3 events would be replayed" in out
    assert "--apply --confirm 3" in out
    assert WebhookEvent.objects(state="dead").count() == 3
    code, out, err = run("run", "--type", TYPE, "--apply", "--confirm", "3", "--note", "fixed", "--actor", "ada")
    assert (code, out.split(" ", 2)[2]) == (0, "succeeded: 3 of 3 (3 succeeded)\n")
    assert [it.plan for it, _ in made] == ["pro"] * 3
    assert [(each.actor, each.note) for each in AdminAction.objects(action="replay_batch")] == [("ada", "fixed")] * 2


def test_a_number_that_is_not_the_count_is_refused(run, lost):
    lost(2)
    code, out, err = run("run", "--apply", "--confirm", "3")
    assert (code, out) == (1, "")
    assert err.startswith("selection_changed: ")
    assert run("run", "--apply")[0] == 2


def test_without_a_worker_it_says_so_and_can_be_cancelled(run, lost):
    lost(1)
    code, out, _ = run("run", "--apply", "--confirm", "1", "--wait", "0")
    assert code == 1
    assert "is a worker running?" in out
    batch_id = str(ReplayBatch.objects.first().pk)
    assert run("show", batch_id)[1].startswith(f"batch {batch_id} queued: 0 of 1")
    assert run("cancel", batch_id, "--note", "wrong filter") == (0, f"batch {batch_id} is cancelled\n", "")
    assert run("cancel", batch_id)[0] == 0


def test_what_failed_is_told(run, lost, sandbox, worker):
    made = lost(2)
    sandbox.remove(made[0][0].subscription)
    code, out, _ = run("run", "--apply", "--confirm", "2")
    assert code == 1
    assert "stopped: 1 of 2 (1 failed) because of canary_failed" in out
    code, out, _ = run("show", str(ReplayBatch.objects.first().pk), "--failed")
    assert code == 0
    assert f"0  {made[0][1]}  failed  StripeMissing: " in out
    assert run("cancel", str(ReplayBatch.objects.first().pk))[0] == 1


def test_as_json(run, lost, worker):
    ((_, event_id),) = lost(1)
    code, out, _ = run("run", "--json")
    told = json.loads(out)
    assert (code, told["count"], told["sample"][0]["eventId"]) == (0, 1, event_id)
    code, out, err = run("run", "--apply", "--confirm", "1", "--json")
    assert (code, json.loads(out)["state"], err) == (0, "succeeded", "")


def test_an_event_that_names_nobody_is_told_as_well(run, dead):
    nobodys = dead(type="customer.subscription.created", reason="organization_unknown")
    code, out, _ = run("run")
    assert (code, f"{nobodys.event_id}  customer.subscription.created  org -" in out) == (0, True)
    assert json.loads(run("run", "--json")[1])["sample"][0]["orgId"] is None


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "--state", "closed"),
        ("run", "--org", "x"),
        ("run", "--received-from", "yesterday"),
        ("run", "--limit", "0"),
        ("show", "x"),
        ("cancel", "x"),
    ],
)
def test_wrong_use(run, arguments):
    assert run(*arguments)[0] == 2


def test_an_unknown_batch(run):
    code, _, err = run("show", "6" * 24)
    assert (code, err.split(":")[0]) == (1, "batch_not_found")
