"""The hourly job: what Stripe has and the ledger lacks is found, whatever was lost or killed in between."""

import itertools
import json
import signal
import threading
import time
from datetime import timedelta

import pytest
from mongoengine.connection import get_db

from billing_service.documents import JobRun, OutboxSignal, Watermark, WebhookEvent, database_now
from billing_service.errors import StripeMissing, StripeUnavailable
from billing_service.jobs import runs
from billing_service.jobs.missed_events import missed_events
from billing_service.jobs.queues import enqueue_run
from billing_service.jobs.sweep import sweep
from billing_service.stripe_gateway import VerifiedEvent
from billing_service.webhooks import HANDLERS, missed, receive

UPDATED = "customer.subscription.updated"
SLOT = "20261122T0307"
_numbers = itertools.count(1)


@pytest.fixture
def happens(sandbox):
    """Makes events at Stripe that nobody delivers; returns their ids, oldest first.

    Two seconds pass after them, unless they are to be of the running second: that is the next window's.
    """

    def emit(count=1, kind=UPDATED, passing=2):
        number = next(_numbers)
        subject = {"object": "subscription", "id": f"sub_M{number}", "customer": f"cus_M{number}", "status": "active"}
        ids = [sandbox.emit(kind, subject)["id"] for _ in range(count)]
        if passing:
            sandbox.advance(passing)
        return ids

    return emit


LISTS = -(-len(HANDLERS) // missed.TYPES_PER_LIST)


@pytest.fixture
def watched(app, sandbox):
    """The first start is over, and well apart from what happens in the test."""
    assert missed_events()["complete"]
    sandbox.advance(5)
    sandbox.clear_requests()


@pytest.fixture
def listings(sandbox):
    """The queries of the lists that Stripe was asked for, oldest first; `pages`: without the look at its clock."""

    def read(pages=True):
        asked = [each["query"] for each in sandbox.requests(path="/v1/events", limit=1000)["items"]]
        return [query for query in asked if not pages or "types" in query]

    return read


@pytest.fixture
def read_a_page(runtime):
    """Reads one page of the window and stops there, as a slice does whose time is over."""

    def read():
        return missed.read_on(runtime.stripe, livemode=False, stop=lambda: True, received=lambda: None)

    return read


def deliver(sandbox_event):
    """What the endpoint does with an event."""
    receive(VerifiedEvent(sandbox_event, 0), json.dumps(sandbox_event).encode(), livemode=False, now=database_now())


def stored():
    return {each.event_id: each for each in WebhookEvent.objects()}


def watermark():
    return Watermark.objects(name=missed.WATERMARK).first()


def alerts(name="missed_events"):
    return list(OutboxSignal.objects(name=name))


def queued(runtime, queue):
    return [each.decode() for each in runtime.redis.client().lrange(f"rq:queue:{queue}", 0, -1)]


def test_it_works(watched, happens, runtime, sandbox):
    [lost] = happens()
    found = missed_events()
    assert (found["missed"], found["alerted"], found["pages"], found["complete"]) == (1, 0, LISTS, True)
    event = stored()[lost]
    assert (event.state, event.source, event.type, event.secret_index) == ("received", "missed", UPDATED, None)
    assert event.stripe_subscription_id.startswith("sub_M")
    assert event.event["id"] == lost
    assert len(runtime.redis.client().lrange("rq:queue:webhooks", 0, -1)) == 1
    assert watermark().window is None


def test_twice_is_once(watched, happens):
    happens(3)
    assert missed_events()["missed"] == 3
    before = list(get_db().webhook_events.find())
    again = missed_events()
    assert (again["missed"], again["listed"]) == (0, 3)
    assert list(get_db().webhook_events.find()) == before


def test_the_first_start_reads_nothing_from_before(app, happens, sandbox):
    happens(2)
    sandbox.advance(3600)
    found = missed_events()
    assert (found["from"], found["listed"], found["complete"]) == (None, 0, True)
    sandbox.advance(60)
    [later] = happens()
    assert missed_events()["missed"] == 1
    assert set(stored()) == {later}
    assert abs((watermark().started_at - watermark().at).total_seconds()) < 70


def test_a_dropped_delivery_is_found_and_settled_like_any(watched, stripe, sandbox, organization, process, eventually):
    sandbox.seed(1, ["price_pro_monthly"])
    stripe.webhook_endpoints.create({"url": "http://127.0.0.1:9/nobody", "enabled_events": ["*"]})
    org_id = organization()
    stripe.subscriptions.create(
        {
            "customer": stripe.customers.create().id,
            "items": [{"price": "price_pro_monthly"}],
            "metadata": {"organizationId": str(org_id)},
        }
    )
    [delivery] = sandbox.deliveries(type="customer.subscription.created")
    sandbox.drop(delivery["id"])
    sandbox.advance(2)
    assert missed_events()["missed"] >= 1
    process("worker")
    eventually(lambda: stored()[delivery["event"]].state == "succeeded")
    assert stored()[delivery["event"]].outcome == "applied"


def test_only_handled_types_are_asked_for(watched, happens, listings):
    happens(kind="product.created")
    [handled] = happens()
    assert missed_events()["listed"] == 1
    assert set(stored()) == {handled}
    assert len(listings()) == LISTS
    assert all("*" not in query for query in listings())


def test_250_events_in_three_pages_and_known_ones_cost_one_query_each(watched, happens, runtime, sandbox):
    ids = happens(250)
    first = missed_events()
    pages = 3 + LISTS - 1
    assert (first["missed"], first["listed"], first["pages"]) == (250, 250, pages)
    assert set(stored()) == set(ids)
    database = get_db()
    database.command("profile", 2)
    try:
        again = missed_events()
    finally:
        database.command("profile", 0)
    seen = list(database["system.profile"].find({"ns": f"{database.name}.webhook_events"}))
    database.drop_collection("system.profile")
    assert (again["missed"], again["listed"]) == (0, 250)
    finds = [each for each in seen if each["command"].get("find")]
    assert len(finds) <= pages
    assert {each["planSummary"] for each in finds} == {"IXSCAN { event_id: 1 }"}
    [told] = [each for each in seen if each["command"].get("aggregate")]
    assert "IXSCAN" in told["planSummary"]
    assert "received_at" in told["planSummary"]
    assert not [each for each in seen if each["op"] in ("insert", "update")]


def test_one_query_and_one_insert_for_each_that_is_lacking(watched, happens, runtime):
    ids = happens(4)
    page = runtime.stripe.events(created_gte=None).value["data"]
    for each in page[:2]:
        deliver(each)
    assert missed_events()["missed"] == 2
    assert {key: each.source for key, each in stored().items()} == {
        ids[0]: "missed",
        ids[1]: "missed",
        ids[2]: "delivery",
        ids[3]: "delivery",
    }


def test_the_same_second_at_both_edges_of_a_window(watched, happens, sandbox):
    # The runs end within the seconds in which the events happen: each second is one window's end and another's
    # beginning, and events come before and after the look.
    ids = []
    deadline = time.monotonic() + 4
    while time.monotonic() < deadline:
        ids += happens(4, passing=0)
        missed_events()
    sandbox.advance(2)
    missed_events()
    assert set(stored()) == set(ids)
    assert {each.source for each in stored().values()} == {"missed"}


def test_an_event_that_stripe_lists_late_is_found_by_the_next_run(watched, happens, sandbox):
    [late] = happens()
    sandbox.advance(3000)
    # As if a run had passed the event's second and Stripe's list had not shown it.
    Watermark.objects().update(set__at=watermark().at + timedelta(seconds=2900))
    assert missed_events()["missed"] == 1
    assert set(stored()) == {late}
    assert len(alerts()) == 1


def test_what_happens_during_the_run_is_the_next_windows(watched, happens, sandbox, read_a_page, runtime):
    first = happens(150)
    assert not read_a_page().complete
    sandbox.advance(2)
    # Also of a type whose list was not begun yet.
    during = happens(3) + happens(3, kind=sorted(HANDLERS)[-1])
    assert missed_events()["listed"] == 150
    assert set(stored()) == set(first)
    assert missed_events()["missed"] == 6
    assert set(stored()) == {*first, *during}


def test_the_watermark_moves_only_when_the_window_is_read_out(watched, happens, read_a_page, listings):
    happens(150)
    before = watermark().at
    reading = read_a_page()
    assert (reading.complete, reading.listed, reading.missed) == (False, 100, 100)
    assert watermark().at == before
    assert watermark().window.until == reading.until
    assert missed_events()["complete"]
    assert watermark().at == reading.until
    # The second part began where the first had ended.
    pages = listings()
    assert len([query for query in pages if "starting_after" not in query]) == len(pages) - 1


def test_older_than_ten_minutes_alerts_once(watched, happens, sandbox):
    old = happens(7)
    sandbox.advance(601)
    young = happens(2)
    found = missed_events()
    assert (found["missed"], found["alerted"]) == (9, 7)
    [alert] = alerts()
    assert alert.facts["count"] == 7
    assert alert.facts["types"] == [UPDATED]
    assert set(alert.facts["event_ids"]) <= set(old)
    assert len(alert.facts["event_ids"]) == missed.SAMPLE
    assert alert.facts["oldest"] == stored()[old[0]].created.isoformat().replace("+00:00", "Z")
    assert missed_events()["alerted"] == 0
    assert len(alerts()) == 1
    assert set(stored()) == {*old, *young}


def test_the_alert_counts_what_a_killed_run_had_found(watched, happens, sandbox, runtime):
    happens(3)
    sandbox.advance(700)
    happens(120)
    sandbox.advance(700)

    class Killed(BaseException):
        pass

    def die():
        raise Killed

    # Dies after the page was received and before its place was stored.
    with pytest.raises(Killed):
        missed.read_on(runtime.stripe, livemode=False, stop=lambda: False, received=die)
    assert len(WebhookEvent.objects) == 100
    assert watermark().window.pages == 0
    found = missed_events()
    assert (found["missed"], found["alerted"], found["listed"]) == (123, 123, 123)
    [alert] = alerts()
    assert alert.facts["count"] == 123


def test_a_slice_that_ends_goes_on_as_a_run_of_its_own(watched, happens, runtime, process, eventually, sandbox):
    happens(150)
    sandbox.arm("delay", path="/v1/events", seconds=0.6, times=None)
    runs.claim("missed_events", SLOT)
    enqueue_run(missed_events, SLOT, 1)
    first = process("worker")
    eventually(lambda: watermark().window)
    first.send_signal(signal.SIGTERM)
    assert first.wait(10) == 0
    [begun] = JobRun.objects(job="missed_events", state="succeeded")
    assert begun.summary["complete"] is False
    [rest] = JobRun.objects(job="missed_events", state="claimed")
    assert queued(runtime, "batch") == [f"missed_events-{rest.slot}-1"]
    sandbox.disarm()
    process("worker")
    eventually(lambda: JobRun.objects(job="missed_events", state="succeeded").count() == 2)
    rest.reload()
    assert (rest.summary["complete"], rest.summary["missed"], rest.summary["listed"]) == (True, 150, 150)
    assert (rest.summary["from"], rest.summary["to"]) == (begun.summary["from"], begun.summary["to"])
    assert watermark().window is None


def test_killed_in_the_middle_it_goes_on_from_its_page(
    watched, happens, runtime, process, eventually, sandbox, listings
):
    ids = happens(250)
    sandbox.advance(700)
    before = watermark().at
    sandbox.arm("delay", path="/v1/events", seconds=0.7, times=None)
    runs.claim("missed_events", SLOT)
    enqueue_run(missed_events, SLOT, 1)
    child = process("worker")
    eventually(lambda: watermark().window and watermark().window.pages == 1)
    child.kill()
    child.wait()
    sandbox.disarm()
    assert watermark().at == before
    assert 100 <= len(stored()) < 250
    asked = len(listings())
    # What the lease of a dead run comes to.
    JobRun.objects(job="missed_events").update(set__lease_until=database_now() - timedelta(seconds=1))
    assert sweep()["runs_taken_up"] == 1
    process("worker")
    run = eventually(lambda: JobRun.objects(job="missed_events", state="succeeded").first())
    assert (run.attempt, run.summary["missed"], run.summary["complete"]) == (2, 250, True)
    assert set(stored()) == set(ids)
    assert all("starting_after" in query for query in listings()[asked : asked + 1])
    assert len(alerts()) == 1
    assert alerts()[0].facts["count"] == 250


def test_stripe_down_leaves_the_watermark_where_it_is(watched, happens, sandbox, runtime):
    [lost] = happens()
    before = watermark().at
    sandbox.arm("error", path="/v1/events", status=503, times=None)
    runs.claim("missed_events", SLOT)
    with pytest.raises(StripeUnavailable):
        missed_events(slot=SLOT, attempt=1)
    run = JobRun.objects(job="missed_events").first()
    assert run.state == "failed"
    assert run.error.startswith("StripeUnavailable: ")
    assert watermark().at == before
    sandbox.disarm()
    runtime.stripe.circuit.succeeded()
    assert sweep()["runs_taken_up"] == 1
    assert queued(runtime, "batch") == [f"missed_events-{SLOT}-2"]
    assert missed_events(slot=SLOT, attempt=2)["missed"] == 1
    assert set(stored()) == {lost}


def test_stripe_down_in_the_middle_goes_on_from_the_page(watched, happens, sandbox, runtime, listings):
    ids = happens(150)
    sandbox.arm("error", path="/v1/events", status=500, times=None, after=2)
    with pytest.raises(StripeUnavailable):
        missed_events()
    assert watermark().window.pages == 1
    sandbox.disarm()
    runtime.stripe.circuit.succeeded()
    assert missed_events()["missed"] == 150
    assert set(stored()) == set(ids)


def test_two_at_once_are_harmless(app, watched, happens, sandbox):
    ids = happens(250)
    sandbox.advance(700)
    found = []

    def run():
        with app.app_context():
            found.append(missed_events())

    threads = [threading.Thread(target=run) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(found) == 4
    # Whoever was overtaken left the rest to the one that was further.
    assert missed_events()["complete"]
    assert set(stored()) == set(ids)
    assert sum(alert.facts["count"] for alert in alerts()) == 250
    assert len(alerts()) == 1


def test_a_slow_reader_that_was_overtaken_writes_nothing(watched, happens, sandbox, runtime):
    happens(150)
    ahead = []

    def be_overtaken():
        if not ahead:
            ahead.append(missed_events())
            happens()
            ahead.append(missed_events())

    before = watermark().at
    with pytest.raises(missed.Overtaken):
        missed.read_on(runtime.stripe, livemode=False, stop=lambda: False, received=be_overtaken)
    assert [each["complete"] for each in ahead] == [True, True]
    mark = watermark()
    assert (mark.window, mark.at > before) == (None, True)
    assert ahead[1]["to"] == mark.at.isoformat().replace("+00:00", "Z")
    assert len(WebhookEvent.objects) == 151


def test_two_first_starts_at_once(app, happens, sandbox):
    threads = [threading.Thread(target=lambda: _in(app)) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(Watermark.objects) == 1
    sandbox.advance(5)
    happens()
    assert missed_events()["missed"] == 1


def _in(app):
    with app.app_context():
        missed_events()


def test_an_event_delivered_meanwhile_is_not_received_again(watched, happens, runtime):
    [lost] = happens()
    deliver(runtime.stripe.event(lost).value)
    assert missed_events()["missed"] == 0
    assert stored()[lost].source == "delivery"
    [second] = happens()
    assert missed_events()["missed"] == 1
    deliver(runtime.stripe.event(second).value)
    assert stored()[second].source == "missed"


def test_a_cursor_that_stripe_forgot_begins_the_list_again(watched, happens, sandbox, read_a_page):
    ids = happens(150)
    read_a_page()
    cursor = watermark().window.after
    sandbox.remove(cursor)
    found = missed_events()
    assert (found["complete"], found["missed"]) == (True, 150)
    assert set(stored()) == set(ids)


def test_a_request_that_stripe_does_not_like_is_not_repeated_for_ever(watched, happens, sandbox):
    happens(150)
    body = {"error": {"type": "invalid_request_error", "code": "resource_missing", "message": "No such event"}}
    # After the look at the clock and a page: this cursor is too young to be forgotten.
    sandbox.arm("error", path="/v1/events", status=400, body=body, times=1, after=2)
    with pytest.raises(StripeMissing):
        missed_events()
    sandbox.arm("error", path="/v1/events", status=400, body=body, times=None)
    with pytest.raises(StripeMissing):
        missed_events()
    sandbox.disarm()
    assert missed_events()["missed"] == 150


def test_a_watermark_older_than_stripes_memory_is_said_aloud(watched, happens, sandbox):
    happens(2)
    sandbox.advance(31 * 86400)
    [recent] = happens()
    before = watermark().at
    found = missed_events()
    assert (found["complete"], found["missed"]) == (True, 1)
    assert set(stored()) == {recent}
    [gap] = alerts("missed_events_gap")
    assert gap.facts["from"] == before.isoformat().replace("+00:00", "Z")
    assert gap.facts["to"] > gap.facts["from"]
    assert "sync" in gap.facts["remedy"]
    missed_events()
    assert len(alerts("missed_events_gap")) == 1


def test_29_days_are_no_gap(watched, happens, sandbox):
    [old] = happens()
    sandbox.advance(29 * 86400)
    assert missed_events()["missed"] == 1
    assert set(stored()) == {old}
    assert alerts("missed_events_gap") == []
    assert len(alerts()) == 1


def test_a_watermark_ahead_of_stripes_clock_hides_nothing(watched, happens):
    ahead = timedelta(days=3)
    mark = watermark()
    Watermark.objects().update(set__at=mark.at + ahead, set__started_at=mark.started_at + ahead)
    ids = happens(2)
    assert missed_events()["missed"] == 2
    ids += happens(2)
    assert missed_events()["missed"] == 2
    assert set(stored()) == set(ids)


def test_new_code_with_other_types_begins_the_window_anew(watched, happens, read_a_page, sandbox):
    happens(150)
    sandbox.advance(700)
    read_a_page()
    Watermark.objects().update(set__window__types=["invoice.paid"])
    found = missed_events()
    assert (found["missed"], found["alerted"]) == (150, 150)


def test_an_event_that_cannot_be_read_hides_no_other(watched, happens, sandbox):
    [older] = happens()
    [broken] = happens()
    sandbox.patch(broken, {"created": watermark().at.timestamp() + 4, "api_version": "no\u0000version"})
    found = missed_events()
    assert (found["complete"], found["missed"]) == (True, 1)
    assert set(stored()) == {older}


def test_without_a_key_there_is_nothing_to_ask(app, environment):
    from billing_service import create_app
    from billing_service.settings import Settings

    without = {key: value for key, value in environment.items() if not key.startswith("STRIPE_SECRET")}
    with create_app(Settings.from_env(without)).app_context():
        assert missed_events() == {"complete": False, "skipped": "stripe_not_configured"}
    assert watermark() is None
