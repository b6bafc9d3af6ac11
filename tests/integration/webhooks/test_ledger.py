"""The states of an event and every way from one to another."""

import threading
from datetime import UTC, datetime, timedelta
from importlib import metadata

import pytest
from bson import ObjectId

from billing_service.documents import WebhookEvent, database_now, in_transaction
from billing_service.documents.organization import Organization
from billing_service.documents.webhook_event import Closed
from billing_service.errors import StripeUnavailable
from billing_service.webhooks import ledger
from billing_service.webhooks.replay import find_replay

DELAYS = (10, 60, 300, 1800)
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def store(runtime):
    """Puts an event into the ledger."""

    def put(number=1, **fields):
        now = runtime.clock()
        event = WebhookEvent(
            event_id=f"evt_L{number:04d}",
            type="customer.subscription.updated",
            created=now - timedelta(minutes=10) + timedelta(seconds=number),
            payload="{}",
            received_at=now,
            source="delivery",
            state="received",
        )
        for name, value in fields.items():
            setattr(event, name, value)
        return event.save(force_insert=True)

    return put


def again(event):
    return WebhookEvent.objects(id=event.pk).first()


def rewrite(event, **fields):
    WebhookEvent.objects(id=event.pk).update_one(**{f"set__{name}": value for name, value in fields.items()})


def expire(event):
    rewrite(event, lease_until=database_now() - timedelta(seconds=1))


def seconds_until(moment):
    return (moment - database_now()).total_seconds()


def test_claims_the_oldest_created_first(app, store):
    for number in (3, 1, 2):
        store(number)
    claimed = ledger.claim(2)
    assert [each.event_id for each in claimed] == ["evt_L0001", "evt_L0002"]
    assert {each.state for each in claimed} == {"processing"}
    assert 28 < seconds_until(claimed[0].lease_until) <= 30
    assert [each.event_id for each in ledger.claim(5)] == ["evt_L0003"]
    assert ledger.claim(5) == []


def test_what_waits_is_not_claimed_before_its_time(app, store):
    store(1, state="failed", next_attempt_at=database_now() + timedelta(seconds=30))
    due = store(2, state="failed", next_attempt_at=database_now() - timedelta(seconds=1))
    assert [each.pk for each in ledger.claim(5)] == [due.pk]
    assert ledger.has_due() is False
    assert 25 < ledger.seconds_to_next() <= 30


@pytest.mark.parametrize("state", ["processing", "succeeded", "dead", "closed"])
def test_other_states_are_never_claimed(app, store, state):
    store(1, state=state, lease_until=database_now() + timedelta(seconds=30))
    assert ledger.claim(5) == []


def test_many_claim_each_event_once(app, store):
    for number in range(60):
        store(number)
    claimed, wins = [], threading.Lock()

    def take():
        while events := ledger.claim(7):
            with wins:
                claimed.extend(each.event_id for each in events)

    threads = [threading.Thread(target=take) for _ in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    # A contender may give up although work is left; then somebody else has it or the next claim takes it.
    take()
    assert sorted(claimed) == sorted(f"evt_L{number:04d}" for number in range(60))


def test_settle(app, store):
    store()
    [event] = ledger.claim(1)
    organization = ObjectId()
    ledger.settle(event, "applied", ledger.Trial(), organization=organization)
    settled = again(event)
    assert (settled.state, settled.outcome, settled.organization) == ("succeeded", "applied", organization)
    assert (settled.lease_owner, settled.lease_until, settled.next_attempt_at) == (None, None, None)
    assert 89.9 < seconds_until(settled.expires_at) / 86400 <= 90
    [line] = settled.history
    assert (line.source, line.actor, line.outcome, line.error_class) == ("webhook", "worker", "applied", None)
    assert line.code_version == metadata.version("billing-service")
    assert line.milliseconds >= 0
    assert line.at


def test_settling_commits_with_the_effect_or_not_at_all(app, store, organization):
    org_id = organization()
    store()
    [event] = ledger.claim(1)

    def effect():
        Organization.objects(id=org_id).update_one(set__plan="pro")
        ledger.settle(event, "applied", ledger.Trial())

    expire(event)
    ledger.return_expired()
    with pytest.raises(ledger.LeaseLost):
        in_transaction(effect)
    assert Organization.objects(id=org_id).first().plan == "free"
    assert again(event).state == "failed"

    [event] = ledger.claim(1)
    in_transaction(effect)
    assert Organization.objects(id=org_id).first().plan == "pro"
    assert again(event).state == "succeeded"


def test_fail_waits_by_the_delays_and_then_is_dead(app, store):
    stored = store()
    for attempt, delay in enumerate(DELAYS, 1):
        [event] = ledger.claim(1)
        assert ledger.fail(event, ValueError("sub_1AbCdEfGh was 17"), ledger.Trial(), delays=DELAYS) == "failed"
        failed = again(stored)
        assert (failed.state, failed.attempts, failed.reason) == ("failed", attempt, "handler_failed")
        assert delay * 0.79 < seconds_until(failed.next_attempt_at) <= delay * 1.2
        rewrite(stored, next_attempt_at=database_now())
    [event] = ledger.claim(1)
    assert ledger.fail(event, ValueError("$set whsec_0123456789abcdef"), ledger.Trial(), delays=DELAYS) == "dead"
    dead = again(stored)
    assert (dead.state, dead.attempts, dead.next_attempt_at, dead.expires_at) == ("dead", 5, None, None)
    assert dead.dead_at
    assert dead.history[0].error_message == "sub_1AbCdEfGh was 17"
    assert dead.history[-1].error_message == "$set [masked]"
    assert dead.history[-1].error_class == "ValueError"
    assert ledger.claim(1) == []


def test_fingerprints_are_equal_for_the_same_failure():
    from billing_service.webhooks.failures import fingerprint_of

    first = fingerprint_of(ValueError("sub_1AbCdEfGh of 0123456789abcdef01234567 was 17"))
    second = fingerprint_of(ValueError("sub_9ZyXwVuTs of abcdef0123456789abcdef01 was 4"))
    assert first == second == "ValueError: # of # was #"
    assert first != fingerprint_of(KeyError("sub_1AbCdEfGh of 0123456789abcdef01234567 was 17"))


def test_outages_do_not_count(app, store):
    stored = store()
    for expected in (5, 10, 20, 40):
        [event] = ledger.claim(1)
        assert ledger.defer(event, StripeUnavailable("away"), ledger.Trial()) == "failed"
        waiting = again(stored)
        assert (waiting.attempts, waiting.reason) == (0, "outage")
        assert expected * 0.79 < seconds_until(waiting.next_attempt_at) <= expected * 1.2
        rewrite(stored, next_attempt_at=database_now())
    rewrite(stored, deferrals=60)
    [event] = ledger.claim(1)
    ledger.defer(event, StripeUnavailable("away"), ledger.Trial())
    assert 900 * 0.79 < seconds_until(again(stored).next_attempt_at) <= 900 * 1.2


def test_an_outage_of_three_days_is_the_end(app, store):
    stored = store(deferred_since=database_now() - timedelta(days=3, minutes=1), deferrals=300)
    [event] = ledger.claim(1)
    assert ledger.defer(event, StripeUnavailable("away"), ledger.Trial()) == "dead"
    assert (again(stored).state, again(stored).reason, again(stored).attempts) == ("dead", "outage", 1)


def test_a_failure_between_outages_starts_the_three_days_anew(app, store):
    stored = store(deferred_since=database_now() - timedelta(days=2), deferrals=300)
    [event] = ledger.claim(1)
    ledger.fail(event, ValueError("x"), ledger.Trial(), delays=DELAYS)
    assert (again(stored).deferred_since, again(stored).deferrals) == (None, 0)


@pytest.mark.parametrize("move", ["settle", "fail", "defer", "bury"])
def test_a_lost_lease_writes_nothing(app, store, move):
    stored = store()
    [mine] = ledger.claim(1)
    expire(mine)
    assert ledger.return_expired() == 1
    [theirs] = ledger.claim(1)
    before = again(stored).to_mongo()
    moves = {
        "settle": lambda: ledger.settle(mine, "applied", ledger.Trial()),
        "fail": lambda: ledger.fail(mine, ValueError("x"), ledger.Trial(), delays=DELAYS),
        "defer": lambda: ledger.defer(mine, StripeUnavailable("x"), ledger.Trial()),
        "bury": lambda: ledger.bury(mine, ValueError("x"), ledger.Trial(), reason="organization_conflict"),
    }
    with pytest.raises(ledger.LeaseLost):
        moves[move]()
    assert ledger.renew([mine]) == 0
    assert ledger.release([mine]) == 0
    assert again(stored).to_mongo() == before
    ledger.settle(theirs, "applied", ledger.Trial())
    assert again(stored).state == "succeeded"


def test_renewing_keeps_the_lease(app, store):
    store()
    [event] = ledger.claim(1)
    rewrite(event, lease_until=database_now() + timedelta(seconds=1))
    assert ledger.renew([event]) == 1
    assert seconds_until(again(event).lease_until) > 28


def test_releasing_leaves_no_trace(app, store):
    fresh, failed = store(1), store(2, state="failed", attempts=2, next_attempt_at=database_now())
    assert ledger.release(ledger.claim(5)) == 2
    assert (again(fresh).state, again(failed).state) == ("received", "failed")
    assert again(failed).attempts == 2
    assert again(fresh).history == []
    assert len(ledger.claim(5)) == 2


def test_ten_lost_leases_are_the_end(app, store):
    stored = store()
    for loss in range(1, 11):
        rewrite(stored, next_attempt_at=database_now())
        [event] = ledger.claim(1)
        expire(event)
        assert ledger.return_expired() == 1
        assert (again(stored).lease_losses, again(stored).attempts) == (loss, 0)
        assert again(stored).state == ("failed" if loss < 10 else "dead")
    dead = again(stored)
    assert (dead.reason, dead.fingerprint, dead.next_attempt_at) == ("lease_losses", "LeaseExpired", None)
    assert dead.dead_at
    assert len(dead.history) == 10


def test_the_first_lost_lease_does_not_wait(app, store):
    store()
    [event] = ledger.claim(1)
    expire(event)
    ledger.return_expired()
    assert len(ledger.claim(1)) == 1


def test_an_event_that_lost_its_holder_is_claimed_alone(app, store):
    """It may be what killed it, and would take its neighbours with it ten times."""
    for number in range(1, 6):
        store(number, lease_losses=1 if number in (1, 3) else 0)
    slices = []
    while claimed := ledger.claim(10):
        slices.append([int(each.event_id[-1]) for each in claimed])
    assert slices == [[1], [2], [3], [4, 5]]


def test_the_history_keeps_the_last_twenty(app, store):
    stored = store()
    for number in range(25):
        rewrite(stored, next_attempt_at=database_now())
        [event] = ledger.claim(1)
        ledger.fail(event, ValueError(f"try {number}"), ledger.Trial(), delays=(1,) * 30)
    messages = [line.error_message for line in again(stored).history]
    assert messages == [f"try {number}" for number in range(5, 25)]


def test_a_long_outage_is_one_line_of_history(app, store):
    """Three days of waiting must not push out what was told before."""
    stored = store()
    ledger.fail(ledger.claim(1)[0], ValueError("bug"), ledger.Trial(), delays=(0, 0, 0))
    for number in range(25):
        rewrite(stored, next_attempt_at=database_now())
        ledger.defer(ledger.claim(1)[0], StripeUnavailable(f"away {number}"), ledger.Trial())
    rewrite(stored, next_attempt_at=database_now())
    ledger.fail(ledger.claim(1)[0], ValueError("bug again"), ledger.Trial(), delays=(0, 0, 0))
    rewrite(stored, next_attempt_at=database_now())
    ledger.defer(ledger.claim(1)[0], StripeUnavailable("away again"), ledger.Trial())
    messages = [line.error_message for line in again(stored).history]
    assert messages == ["bug", "away 24", "bug again", "away again"]


def test_closing_hides_a_dead_letter_and_nothing_else(app, store):
    dead, failed = store(1, state="dead", dead_at=database_now()), store(2, state="failed")
    assert ledger.close(dead.event_id, by="ada", note="$known") is True
    assert ledger.close(dead.event_id, by="ada", note=None) is False
    assert ledger.close(failed.event_id, by="ada", note=None) is False
    closed = again(dead)
    assert (closed.state, closed.closed.by, closed.closed.note) == ("closed", "ada", "$known")
    assert closed.expires_at
    assert closed.payload


def ask(event, *states, actor="ada"):
    return ledger.ask_replay(event, actor=actor, states=states or ("received", "failed", "dead"))


def test_a_failed_replay_leaves_it_dead_with_one_more_line(app, store):
    dead = store(state="dead", dead_at=database_now(), attempts=5, lease_losses=9)
    job_id = ask(dead)
    assert job_id == f"replay-{dead.event_id}-1"
    event = ledger.claim_replay(dead.event_id)
    assert (event.replay.actor, event.lease_losses) == ("ada", 0)
    assert ledger.fail(event, ValueError("still"), ledger.trial_of(event), delays=DELAYS) == "dead"
    after = again(dead)
    assert (after.state, after.attempts, after.returns_to, after.replay) == ("dead", 6, None, None)
    assert [(line.source, line.actor, line.job_id) for line in after.history] == [("replay", "ada", job_id)]


@pytest.mark.parametrize("state", ["succeeded", "closed"])
def test_a_failed_forced_replay_leaves_it_as_it_was(app, store, state):
    good = store(state=state, outcome="applied", expires_at=database_now() + timedelta(days=80))
    assert ask(good) is None
    assert ask(good, state)
    event = ledger.claim_replay(good.event_id)
    assert ledger.fail(event, ValueError("x"), ledger.trial_of(event), delays=DELAYS) == state
    after = again(good)
    assert (after.state, after.outcome, after.dead_at, after.replay) == (state, "applied", None, None)
    assert after.expires_at


def test_a_replay_that_works_revives_a_dead_letter(app, store):
    dead = store(state="dead", dead_at=database_now(), attempts=5, reason="handler_failed", fingerprint="x")
    ask(dead)
    event = ledger.claim_replay(dead.event_id)
    assert ledger.claim_replay(dead.event_id) is None
    assert ask(dead) is None  # it is under way
    ledger.settle(event, "applied", ledger.trial_of(event))
    after = again(dead)
    assert (after.state, after.dead_at, after.reason, after.fingerprint) == ("succeeded", None, None, None)
    assert (after.replay, after.replays) == (None, 1)
    assert ledger.claim_replay(dead.event_id) is None


def test_asking_twice_is_one_replay_and_the_next_is_another(app, store):
    waits = store(state="failed", next_attempt_at=database_now() + timedelta(hours=1), attempts=2)
    first = ask(waits)
    assert again(waits).next_attempt_at is None
    assert ask(waits, actor="bob") == first
    assert again(waits).replay.actor == "ada"
    ledger.fail(ledger.claim_replay(waits.event_id), ValueError("x"), ledger.Trial(), delays=DELAYS)
    assert (again(waits).state, again(waits).attempts) == ("failed", 3)
    assert ask(waits) == f"replay-{waits.event_id}-2"


def test_a_replay_that_killed_ten_processes_is_told_of(app, store):
    dead = store(state="dead", dead_at=database_now(), attempts=5)
    job_id = ask(dead)
    for _ in range(10):
        assert ledger.claim_replay(dead.event_id)
        rewrite(dead, lease_until=database_now() - timedelta(seconds=1))
        ledger.return_expired()
    assert again(dead).state == "dead"
    assert (find_replay(job_id).state, find_replay(job_id).error_class) == ("failed", "LeaseExpired")


def test_waking_what_was_unknown_leaves_a_replay_the_one_it_is(app, store):
    dead = store(
        state="dead", dead_at=database_now(), attempts=5, reason="organization_unknown", stripe_customer_id="c"
    )
    job_id = ask(dead)
    ledger.defer(ledger.claim_replay(dead.event_id), StripeUnavailable("away"), ledger.Trial())
    rewrite(dead, reason="organization_unknown")
    assert ledger.wake_unknown(stripe_customer_id="c") == 1
    woken = again(dead)
    assert (woken.replay.job_id, woken.returns_to, woken.next_attempt_at) == (job_id, "dead", None)


def test_nothing_removes_a_dead_letter(app, store):
    gone = database_now() - timedelta(days=1)
    closed = store(state="closed", expires_at=gone, closed=Closed(by="ada", at=gone))
    ask(closed, "closed")
    [event] = ledger.claim(1)
    rewrite(event, returns_to="dead")
    event.returns_to = None
    ledger.bury(event, ValueError("x"), ledger.Trial(), reason="customer_shared")
    after = again(closed)
    assert (after.state, after.expires_at, after.closed) == ("dead", None, None)
    expires = WebhookEvent._get_collection().index_information()["expires"]
    assert expires["partialFilterExpression"] == {"state": {"$in": ["succeeded", "closed"]}}


def test_a_replay_survives_its_process_and_an_outage(app, store):
    dead = store(state="dead", dead_at=database_now(), attempts=5)
    job_id = ask(dead)
    event = ledger.claim_replay(dead.event_id)
    WebhookEvent.objects(id=event.pk).update_one(set__lease_until=database_now() - timedelta(seconds=1))
    assert ledger.return_expired() == 1
    [event] = ledger.claim(1)
    assert ledger.trial_of(event).job_id == job_id
    assert ledger.defer(event, ValueError("away"), ledger.trial_of(event)) == "failed"
    after = again(dead)
    assert (after.replay.job_id, after.returns_to) == (job_id, "dead")
    assert after.next_attempt_at


@pytest.mark.parametrize(
    ("index", "sort", "query"),
    [
        ("due", "created", {"state": {"$in": ["received", "failed"]}, "next_attempt_at": {"$not": {"$gt": LONG_AGO}}}),
        ("leased", "lease_until", {"state": "processing", "lease_until": {"$lte": LONG_AGO}}),
        ("next_due", "next_attempt_at", {"state": "failed", "next_attempt_at": {"$ne": None}}),
    ],
)
def test_its_queries_use_their_indexes(app, store, index, sort, query):
    for number in range(50):
        store(number, state="succeeded")
    plan = WebhookEvent._get_collection().find(query).sort(sort, 1).explain()
    assert f"'indexName': '{index}'" in str(plan["queryPlanner"]["winningPlan"])
