"""Signals: told to each receiver at least once, whatever fails, and in the good case once."""

import hashlib
import hmac
import io
import json
import re
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
from bson import ObjectId

from billing_service import observability, outbox
from billing_service.documents import OutboxSignal, database_now
from billing_service.jobs import wakeups
from billing_service.jobs.outbox import send_outbox
from billing_service.jobs.sweep import sweep
from billing_service.outbox import leases
from billing_service.settings import Settings
from tests.integration.jobs.receiver import Inbox

SECRET = "the signing secret of the tests, longer than thirty-two"
OTHER_SECRET = "another signing secret of the tests, of another receiver"


@pytest.fixture(autouse=True)
def nobody_rests():
    """What an earlier test taught this process about its receivers is over."""
    outbox.rests.end()


@pytest.fixture
def inbox():
    """Makes receivers; each listens."""
    made = []

    def make(**how):
        each = Inbox(**how)
        each.up()
        made.append(each)
        return each

    yield make
    for each in made:
        each.open.set()
        each.down()


@pytest.fixture
def backend(inbox):
    return inbox()


@pytest.fixture
def people(inbox):
    return inbox()


@pytest.fixture
def send(app, runtime):
    """Sends what is due to these inboxes; returns the ends."""

    def now(backend=None, people=None, *, stop=lambda: False, **how):
        receivers = [
            outbox.Receiver("alert", people.url, OTHER_SECRET) if people else None,
            outbox.Receiver("event", backend.url, SECRET) if backend else None,
        ]
        return dict(outbox.send_due(filter(None, receivers), clock=runtime.clock, stop=stop, **how))

    return now


@pytest.fixture
def store(app, runtime):
    """Stores a signal; each one later than the last."""
    numbers = iter(range(10_000))

    def put(name="plan_changed", **about):
        number = next(numbers)
        at = runtime.clock() - timedelta(minutes=5) + timedelta(seconds=number)
        about = {"organization": ObjectId(), "facts": {"from": "free", "to": "pro", "price_id": None}} | about
        assert outbox.put([outbox.signal(name, f"{name}:{number}", now=at, **about)]) == 1
        return OutboxSignal.objects(key=f"{name}:{number}").first()

    return put


def again(row):
    return OutboxSignal.objects(id=row.pk).first()


def make_due(**fields):
    """What time would do."""
    unsent = OutboxSignal.objects(next_attempt_at__ne=None)
    unsent.update(set__next_attempt_at=database_now() - timedelta(seconds=1), **fields)


def seconds_until(moment):
    return (moment - database_now()).total_seconds()


def ids(inbox):
    return [json.loads(body)["id"] for body in inbox.bodies]


def test_it_works(send, store, backend, runtime):
    org_id = ObjectId()
    row = store(organization=org_id, version=4, facts={"from": "free", "next_step": {"due_at": runtime.clock()}})
    assert send(backend) == {"sent": 1}
    [(headers, body)] = backend.arrived
    message = json.loads(body)
    assert message == {
        "id": str(row.pk),
        "name": "plan_changed",
        "orgId": str(org_id),
        "createdAt": row.created_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "version": 4,
        "facts": {"from": "free", "nextStep": {"dueAt": message["facts"]["nextStep"]["dueAt"]}},
    }
    assert message["facts"]["nextStep"]["dueAt"].endswith("Z")
    assert headers["Content-Type"] == "application/json; charset=utf-8"
    stamp, proof = re.fullmatch(r"t=([0-9]+),v1=([0-9a-f]{64})", headers["Billing-Signature"]).groups()
    assert abs(time.time() - int(stamp)) < 5
    assert proof == hmac.new(SECRET.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    told = again(row)
    assert told.sent_to == ["listeners", "event"]
    assert told.sent_at
    assert (told.next_attempt_at, told.lease_owner, told.last_error, told.attempts) == (None, None, None, 1)


def test_twice_is_once(send, store, backend):
    store()
    assert [send(backend), send(backend)] == [{"sent": 1}, {}]
    assert len(backend.arrived) == 1


def test_the_oldest_is_told_first(send, store, backend):
    stored = [str(store().pk) for _ in range(5)]
    send(backend)
    assert ids(backend) == stored


def test_each_is_told_what_is_for_them(send, store, backend, people):
    for name in ("plan_changed", "dispute_opened", "webhook_dead"):
        store(name)
    assert send(backend, people) == {"sent": 3}
    names = [[json.loads(body)["name"] for body in inbox.bodies] for inbox in (backend, people)]
    assert names == [["plan_changed", "dispute_opened"], ["dispute_opened", "webhook_dead"]]


def test_the_documented_example_verifies_what_is_sent(send, store, backend):
    text = (Path(__file__).parents[3] / "docs" / "signals.md").read_text()
    example: dict = {}
    exec(re.search(r"```python\n(def read_signal.*?|import .*?def read_signal.*?)```", text, re.DOTALL)[1], example)
    read_signal = example["read_signal"]
    row = store(facts={"name": "Größe & Söhne"})
    send(backend)
    [(headers, body)] = backend.arrived
    header = headers["Billing-Signature"]
    assert read_signal(body, header, SECRET)["id"] == str(row.pk)
    assert read_signal(body, header, "the old secret", SECRET)["facts"] == {"name": "Größe & Söhne"}
    old = f"t={int(time.time()) - 301},v1=" + header.partition("v1=")[2]
    wrong = [(body + b" ", header), (body, old), (body, "t=1"), (body, ""), (body, "v1=ü"), (body, "t=x,v1=y")]
    for signed, said in wrong:
        with pytest.raises(ValueError):
            read_signal(signed, said, SECRET)
    with pytest.raises(ValueError):
        read_signal(body, header, OTHER_SECRET)


def test_down_then_up(send, store, backend):
    row = store()
    backend.down()
    assert send(backend) == {"failed": 1}
    failed = again(row)
    assert (failed.sent_at, failed.sent_to, failed.attempts) == (None, ["listeners"], 1)
    assert failed.last_error == "event: ConnectionError"
    assert 3.5 < seconds_until(failed.next_attempt_at) <= 6
    backend.up()
    assert send(backend) == {}
    outbox.rests.end()
    make_due()
    assert send(backend) == {"sent": 1}
    assert ids(backend) == [str(row.pk)]
    assert (again(row).last_error, again(row).failing_since, again(row).attempts) == (None, None, 2)


def test_it_is_the_same_signal_each_time_and_signed_anew(send, store, backend):
    store()
    backend.answers = [500, 200]
    send(backend)
    make_due()
    time.sleep(1.1)
    send(backend)
    (first, body), (second, repeated) = backend.arrived
    assert body == repeated
    assert first["Billing-Signature"] != second["Billing-Signature"]


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 404, 410, 429, 500, 503])
def test_whatever_is_not_2xx_is_not_told(send, store, backend, inbox, status):
    elsewhere = inbox()
    backend.answers = [status]
    backend.headers = {"Location": elsewhere.url}
    row = store()
    assert send(backend) == {"failed": 1}
    assert again(row).last_error == f"event: answered {status}"
    assert elsewhere.arrived == []


def test_one_of_two_fails_and_the_other_is_not_told_again(send, store, backend, people):
    row = store("dispute_opened")
    backend.status = 500
    for _ in range(3):
        make_due()
        assert send(backend, people) == {"failed": 1}
    assert (len(people.arrived), len(backend.arrived)) == (1, 3)
    assert again(row).sent_to == ["listeners", "alert"]
    backend.status = 200
    make_due()
    assert send(backend, people) == {"sent": 1}
    assert (len(people.arrived), len(backend.arrived)) == (1, 4)


def test_pauses_double_up_to_an_hour(send, store, backend):
    row = store()
    backend.status = 500
    for attempts, seconds in [(0, 5), (1, 10), (2, 20), (6, 320), (9, 2560), (10, 3600), (500, 3600)]:
        make_due(set__attempts=attempts)
        send(backend)
        assert seconds * 0.79 < seconds_until(again(row).next_attempt_at) <= seconds * 1.2


def test_after_three_days_it_stops_and_says_so(send, store, backend, caplog):
    row = store()
    backend.status = 500
    send(backend)
    make_due(set__failing_since=database_now() - timedelta(days=2, hours=23))
    assert send(backend) == {"failed": 1}
    make_due(set__failing_since=database_now() - timedelta(days=3, seconds=1))
    with caplog.at_level("ERROR"):
        assert send(backend) == {"given_up": 1}
    stopped = again(row)
    assert (stopped.next_attempt_at, stopped.sent_at, stopped.lease_owner) == (None, None, None)
    assert (stopped.last_error, stopped.attempts) == ("event: answered 500", 3)
    assert send(backend) == {}
    [line] = [record.msg for record in caplog.records if record.levelname == "ERROR"]
    assert (line["event"], line["alert"], line["signal_id"]) == ("signal_given_up", True, str(row.pk))


def test_three_days_without_a_worker_are_not_the_end(send, store, backend):
    row = store()
    OutboxSignal.objects(id=row.pk).update_one(set__created_at=database_now() - timedelta(days=9))
    backend.status = 500
    assert send(backend) == {"failed": 1}


def test_one_that_fails_does_not_hold_up_the_others(send, store, backend):
    stored = [str(store().pk) for _ in range(5)]
    backend.answers = [500]
    assert send(backend) == {"failed": 1, "sent": 4}
    assert ids(backend) == stored


def test_one_that_is_away_is_asked_once_a_slice(send, store, backend, people):
    rows = [store("dispute_opened") for _ in range(20)]
    backend.down()
    began = time.monotonic()
    assert send(backend, people) == {"failed": 1, "waiting": 19}
    assert time.monotonic() - began < 5
    assert len(people.arrived) == 20
    # They have not failed, so they are neither later nor nearer to being given up.
    assert {again(each).attempts for each in rows[1:]} == {0}
    assert {again(each).next_attempt_at for each in rows[1:]} == {each.next_attempt_at for each in rows[1:]}
    backend.up()
    outbox.rests.end()
    assert send(backend, people) == {"sent": 19}
    assert (len(people.arrived), len(backend.arrived)) == (20, 19)


def test_one_at_rest_does_not_keep_a_signal_from_another(send, store, backend, people):
    row = store("dispute_opened")
    backend.status = people.status = 500
    send(backend, people)
    people.status = 200
    outbox.rests.begin(outbox.Receiver("event", backend.url), 60)
    make_due()
    assert send(backend, people) == {"waiting": 1}
    assert again(row).sent_to == ["listeners", "alert"]
    assert send(backend, people) == {}


def test_one_that_hangs_costs_its_timeout_once(send, store, backend, people):
    rows = [store("dispute_opened") for _ in range(4)]
    backend.delay = 30
    began = time.monotonic()
    assert send(backend, people) == {"failed": 1, "waiting": 3}
    assert 9 < time.monotonic() - began < 14
    assert again(rows[0]).last_error == "event: ReadTimeout"
    assert len(people.arrived) == 4
    # It rests for twice the time that it cost, so that it never has the worker for itself.
    [rest] = [outbox.rests.left(outbox.Receiver("event", backend.url))]
    assert 17 < rest <= 21
    assert send(backend, people) == {}


def test_one_that_asks_to_be_left_alone_is(send, store, backend):
    for _ in range(3):
        store()
    backend.answers = [200, 429]
    backend.headers = {"Retry-After": "40"}
    assert send(backend) == {"sent": 1, "failed": 1, "waiting": 1}
    assert 35 < outbox.rests.left(outbox.Receiver("event", backend.url)) <= 40


def test_a_slow_one_does_not_hold_up_the_others(send, store, backend, people):
    rows = [store("dispute_opened") for _ in range(10)]
    backend.delay = 0.4
    began = time.monotonic()
    assert send(backend, people, share_seconds=1.0) == {"sent": 3, "waiting": 7}
    assert time.monotonic() - began < 2.5
    assert (len(people.arrived), len(backend.arrived)) == (10, 3)
    # It has not failed: the next slice goes on where this one ended.
    backend.delay = 0
    assert send(backend, people) == {"sent": 7}
    assert ids(backend) == [str(each.pk) for each in rows]


def test_an_endless_answer_is_not_read(send, store, backend):
    backend.status, backend.endless = 200, True
    store()
    began = time.monotonic()
    assert send(backend) == {"sent": 1}
    assert time.monotonic() - began < 2


def test_two_senders_at_once_send_once(send, store, backend, app):
    rows = [store() for _ in range(40)]
    backend.delay = 0.01

    def work():
        with app.app_context():
            send(backend)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(ids(backend)) == sorted(str(each.pk) for each in rows)
    assert OutboxSignal.objects(sent_at=None).count() == 0


def test_a_lease_that_ran_out_is_taken_up_and_its_holder_writes_nothing(send, store, backend):
    row = store()
    mine = leases.claim()
    assert 58 < seconds_until(again(row).next_attempt_at) <= 60
    assert send(backend) == {}
    make_due()
    assert send(backend) == {"sent": 1}
    told = again(row).to_mongo()
    ends = [leases.settle(mine), leases.back_off(mine, "late"), leases.release(mine)]
    assert ends == ["lease_lost"] * 3
    assert leases.mark(mine, "alert") is False
    assert again(row).to_mongo() == told


def test_killed_between_the_send_and_the_mark_it_is_sent_again(process, store, backend, runtime, eventually):
    row = store()
    backend.delay = 30
    child = process("worker", EVENT_WEBHOOK_URL=backend.url, EVENT_WEBHOOK_SECRET=SECRET)
    wakeups.wake_outbox()
    eventually(lambda: len(backend.arrived) == 1)
    child.kill()
    child.wait()
    assert (again(row).sent_at, again(row).sent_to) == (None, ["listeners"])
    backend.delay = 0
    backend.open.set()
    make_due()  # what the lease's sixty seconds would do
    wakeups.begun(wakeups.OUTBOX_PENDING)
    process("worker", EVENT_WEBHOOK_URL=backend.url, EVENT_WEBHOOK_SECRET=SECRET)
    assert sweep()["signals_due"] == 1
    eventually(lambda: again(row).sent_at)
    assert ids(backend) == [str(row.pk)] * 2


def test_what_waits_is_sent_in_its_time_without_the_sweep(process, store, backend, eventually):
    row = store()
    backend.answers = [500]
    for name in ("worker", "scheduler"):
        process(name, EVENT_WEBHOOK_URL=backend.url, EVENT_WEBHOOK_SECRET=SECRET)
    wakeups.wake_outbox()
    began = time.monotonic()
    eventually(lambda: len(backend.arrived) == 1)
    eventually(lambda: again(row).sent_at)
    assert time.monotonic() - began < 20


def test_listeners_are_told_first_and_once(send, store, backend):
    heard = []

    def hear(message):
        heard.append((message, len(backend.arrived)))

    named = outbox.listeners.signal("plan_changed")
    backend.status = 500
    row = store()
    with named.connected_to(hear):
        send(backend)
        make_due()
        send(backend)
    [(message, arrived_before)] = heard
    assert message == json.loads(backend.bodies[0])
    assert message["id"] == str(row.pk)
    assert arrived_before == 0


class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError("no words")


class Broken(io.StringIO):
    def write(self, text):
        raise OSError("disk full")


def test_a_listener_that_raises_changes_nothing(send, store, backend):
    heard = []

    def raise_it(message):
        raise Unspeakable

    def hear(message):
        heard.append(message)

    named = outbox.listeners.signal("plan_changed")
    rows = [store(), store()]
    with named.connected_to(raise_it), named.connected_to(hear):
        assert send(backend) == {"sent": 2}
    assert len(heard) == len(backend.arrived) == 2
    assert {tuple(again(each).sent_to) for each in rows} == {("listeners", "event")}


def test_a_log_that_fails_changes_nothing(send, store, backend):
    def raise_it(message):
        raise Unspeakable

    named = outbox.listeners.signal("plan_changed")
    store()
    backend.answers = [500]
    observability.configure("INFO", Broken())
    try:
        with named.connected_to(raise_it):
            assert send(backend) == {"failed": 1}
        make_due()
        assert send(backend) == {"sent": 1}
    finally:
        observability.configure("INFO")


def test_without_addresses_signals_are_settled(app, store):
    rows = [store(), store("dispute_opened")]
    assert send_outbox() == {"sent": 2}
    for each in rows:
        told = again(each)
        assert (told.sent_to, told.next_attempt_at) == (["listeners"], None)
        assert told.sent_at
    assert sweep()["signals_due"] == 0


def test_a_name_of_a_newer_version_is_kept_for_it(send, store, backend, people):
    row = store("not_known_yet")
    assert send(backend, people) == {"failed": 1}
    assert (backend.arrived, people.arrived) == ([], [])
    assert again(row).next_attempt_at
    assert "knows no signal" in again(row).last_error


def test_an_address_that_is_no_longer_set_is_not_waited_for(send, store, backend):
    row = store()
    backend.status = 500
    send(backend)
    make_due()
    assert send() == {"sent": 1}
    assert again(row).sent_to == ["listeners"]


def test_slack_is_told_in_words(app, store, people, runtime):
    store("dispute_opened", facts={"amount": 4900, "currency": "usd", "charge_id": "ch_1", "name": "<!channel> & co"})
    slack = outbox.Receiver("alert", people.url, in_words=True)
    outbox.send_due([slack], clock=runtime.clock, stop=lambda: False)
    [(headers, body)] = people.arrived
    text = json.loads(body)["text"]
    assert list(json.loads(body)) == ["text"]
    assert "Billing-Signature" not in headers
    assert text.startswith("dispute_opened: A customer disputes a payment.")
    assert "amount: 4900\ncurrency: usd\nchargeId: ch_1\nname: &lt;!channel&gt; &amp; co\n" in text


def test_addresses_and_secrets_are_told_to_nobody(send, store, backend, caplog):
    row = store()
    backend.down()
    with caplog.at_level("INFO"):
        send(backend)
    told = f"{again(row).last_error} {[record.msg for record in caplog.records]}"
    assert "signal_not_sent" in told
    assert "secret-path" not in told
    assert SECRET not in told
    shown = repr(outbox.Receiver("event", backend.url, SECRET))
    assert "secret-path" not in shown
    assert SECRET not in shown


def test_password_of_the_address_is_sent(app, store, backend, runtime):
    store()
    url = backend.url.replace("http://", "http://ada:word@")
    outbox.send_due([outbox.Receiver("event", url, SECRET)], clock=runtime.clock, stop=lambda: False)
    assert backend.arrived[0][0]["Authorization"] == "Basic YWRhOndvcmQ="


def test_a_stop_ends_the_slice_and_returns_the_rest(send, store, backend):
    rows = [store() for _ in range(4)]
    assert send(backend, stop=lambda: len(backend.arrived) >= 2) == {"sent": 2}
    assert OutboxSignal.objects(lease_owner__ne=None).count() == 0
    assert again(rows[3]).next_attempt_at == rows[3].next_attempt_at


def test_a_stop_does_not_wait_for_a_second_receiver(send, store, backend, people):
    row = store("dispute_opened")
    assert send(backend, people, stop=lambda: bool(people.arrived)) == {"waiting": 1}
    assert (again(row).sent_to, backend.arrived) == (["listeners", "alert"], [])
    assert send(backend, people) == {"sent": 1}
    assert (len(people.arrived), len(backend.arrived)) == (1, 1)


def test_whoever_must_go_on_knows_when(send, store, backend):
    receivers = [outbox.Receiver("event", backend.url)]
    assert outbox.seconds_to_next(receivers) is None
    store()
    store()
    assert outbox.seconds_to_next(receivers) == 0
    backend.answers = [429]
    send(backend)
    # Two wait for it: the one that failed, in five seconds, and the other one when the rest is over.
    assert 3 < outbox.seconds_to_next(receivers) <= 6
    outbox.rests.end()
    assert outbox.seconds_to_next(receivers) == 0
    send(backend)
    assert 3 < outbox.seconds_to_next(receivers) <= 6


def test_only_what_leaves_this_machine_goes_through_the_proxy(app, send, store, backend, inbox, runtime, monkeypatch):
    proxy = inbox()
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, proxy.url)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    row = store()
    assert send(backend) == {"sent": 1}
    OutboxSignal.objects(id=row.pk).update_one(unset__sent_to=True, set__next_attempt_at=database_now())
    elsewhere = outbox.Receiver("event", "https://app.example.com/signals", SECRET)
    assert outbox.send_due([elsewhere], clock=runtime.clock, stop=lambda: False) == {"failed": 1}
    # The proxy of the test knows no CONNECT.
    assert again(row).last_error == "event: ProxyError"
    assert proxy.arrived == []


def test_waking_is_cheap_and_collapses(app, runtime, store):
    def queued():
        return runtime.redis.client().llen("rq:queue:admin")

    assert [wakeups.wake_outbox() for _ in range(3)] == [True] * 3
    assert queued() == 1
    assert runtime.redis.client().llen("rq:queue:webhooks") == 0
    wakeups.wake()
    assert (queued(), runtime.redis.client().llen("rq:queue:webhooks")) == (1, 1)
    send_outbox()
    wakeups.wake_outbox()
    assert queued() == 2


def test_redis_away_is_silent_and_costs_little(app, servers):
    servers.redis.kill()
    try:
        began = time.monotonic()
        assert wakeups.wake_outbox() is False
        assert time.monotonic() - began < 0.35
        assert send_outbox() == {}
    finally:
        servers.redis.start()


def test_due_signals_are_found_by_the_index_alone(send, store, backend, app):
    """What a slice asks of MongoDB, as its profiler saw it, in a collection of told signals."""
    from mongoengine.connection import get_db

    now = database_now()
    told = {"name": "plan_changed", "created_at": now, "sent_at": now, "sent_to": ["listeners", "event"]}
    OutboxSignal._get_collection().insert_many([told | {"key": f"told:{number}"} for number in range(2_000)])
    for _ in range(3):
        store()
    backend.answers = [200, 429]
    get_db().command("profile", 2)
    try:
        send(backend)
        send(backend)
        assert leases.count_due() == 1
        leases.seconds_to_next()
    finally:
        get_db().command("profile", 0)
        seen = [each for each in get_db().system.profile.find({"ns": re.compile("outbox$")}) if "planSummary" in each]
        get_db().system.profile.drop()
    assert len(seen) > 10
    assert {each["planSummary"] for each in seen} <= {"IXSCAN { next_attempt_at: 1 }", "IXSCAN { _id: 1 }", "IDHACK"}
    assert "IXSCAN { next_attempt_at: 1 }" in {each["planSummary"] for each in seen}
    assert max(each["docsExamined"] for each in seen) <= 3


def test_the_settings_say_who_is_told(environment):
    given = {
        "EVENT_WEBHOOK_URL": "https://app.example.com/signals",
        "EVENT_WEBHOOK_SECRET": SECRET,
        "ALERT_WEBHOOK_URL": "https://hooks.slack.com/services/T0/B0/x",
    }
    people, backend = outbox.receivers_of(Settings.from_env(environment | given))
    assert (people.name, people.in_words, people.secret) == ("alert", True, "")
    assert (backend.name, backend.in_words, backend.secret) == ("event", False, SECRET)
    assert outbox.receivers_of(Settings.from_env(environment)) == ()
