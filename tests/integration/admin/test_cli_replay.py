"""`billing-service replay`, as operators run it."""

import json
import threading

import pytest

from billing_service.documents import AdminAction, WebhookEvent, database_now
from billing_service.jobs.replay import replay as carry_out


@pytest.fixture
def run(command_line):
    return lambda *arguments, **changes: command_line("replay", *arguments, **changes)


@pytest.fixture
def dead(stripe, billed):
    """An organization whose row was lost, and the dead letter that would repair it."""
    it = billed(stored=False)
    live = stripe.events.list({"type": "customer.subscription.created", "limit": 1}).data[0]
    now = database_now()
    WebhookEvent(
        event_id=live.id,
        type=live.type,
        livemode=False,
        created=now,
        received_at=now,
        dead_at=now,
        source="delivery",
        payload=json.dumps(live.to_dict(), default=str),
        state="dead",
        attempts=5,
        stripe_subscription_id=it.subscription,
        organization=it.org_id,
    ).save()
    return it, live.id


@pytest.fixture
def worker(wired):
    """Carries out the replay of an event as soon as it is asked for, as a worker would."""
    done = threading.Event()
    threads = []

    def work(event_id):
        def poll():
            with wired.app_context():
                while not done.wait(0.1):
                    carry_out(event_id)

        threads.append(threading.Thread(target=poll))
        threads[0].start()

    yield work
    done.set()
    for each in threads:
        each.join()


def test_it_works(run, dead, worker):
    it, event_id = dead
    worker(event_id)
    code, out, err = run(event_id, "--note", "fixed", "--actor", "ada")
    assert (code, out, err) == (0, f"replay-{event_id}-1: succeeded: applied\n", "")
    assert it.plan == "pro"
    told = [(each.actor, each.outcome, each.note) for each in AdminAction.objects(action="replay").order_by("at")]
    assert told == [("ada", "pending", "fixed"), ("ada", "succeeded", "fixed")]


def test_a_dry_run_tells_each_field_in_a_line(run, dead):
    it, event_id = dead
    code, out, _ = run(event_id, "--dry-run")
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "it would be applied, and change"
    assert "  plan: free -> pro" in lines
    assert it.plan == "free"
    assert WebhookEvent.objects(event_id=event_id).first().state == "dead"


def test_a_dry_run_that_would_fail(run, dead, sandbox):
    it, event_id = dead
    sandbox.remove(it.subscription)
    code, out, _ = run(event_id, "--dry-run")
    assert code == 1
    assert out.startswith("it would fail: stripe_missing: ")


def test_without_a_worker_it_says_so(run, dead):
    _, event_id = dead
    code, out, _ = run(event_id, "--wait", "0")
    assert code == 1
    assert "is a worker running?" in out


def test_as_json(run, dead, worker):
    _, event_id = dead
    worker(event_id)
    code, out, _ = run(event_id, "--json")
    assert code == 0
    assert json.loads(out)["jobId"] == f"replay-{event_id}-1"
    assert json.loads(out)["state"] == "succeeded"


@pytest.mark.parametrize(("event_id", "code"), [("evt_unheard_of", 1), ("sub_1", 2)])
def test_what_is_refused_is_told(run, event_id, code):
    done, out, err = run(event_id)
    assert (done, out) == (code, "")
    assert ("event_not_found" if code == 1 else "Invalid value") in err
