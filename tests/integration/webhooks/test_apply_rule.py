"""Which events cost a request to Stripe and which do not, and that none of them can turn the row back."""

import json
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from billing_service.documents import OutboxSignal, Subscription, WebhookEvent
from billing_service.jobs.dispatch import dispatch
from billing_service.stripe_gateway import StripeGateway
from billing_service.subscriptions import follow
from billing_service.subscriptions.decision import DOUBT
from billing_service.webhooks.erasure import erase

UPDATED = "customer.subscription.updated"


@pytest.fixture
def asked(sandbox):
    """How many requests the service has sent to Stripe since the last call."""
    sandbox.add_key(key="sk_test_somebody")

    def count():
        found = sandbox.requests(key="sk_test_sandbox", limit=1000)["items"]
        sandbox.clear_requests()
        return len(found)

    return count


@pytest.fixture
def elsewhere(servers, asked):
    """Stripe as somebody else changes it: not counted."""
    import stripe as sdk

    return sdk.StripeClient("sk_test_somebody", base_addresses={"api": servers.stripe.url}, max_network_retries=0).v1


@pytest.fixture
def known(billed, asked):
    """An organization whose row was looked up a while ago."""
    it = billed()
    it_was = Subscription.objects(organization=it.org_id).first()
    assert it_was.as_of
    age(it.org_id, 60)
    asked()
    return it


def age(org_id, seconds):
    row = Subscription.objects(organization=org_id).first()
    earlier = timedelta(seconds=seconds)
    Subscription.objects(id=row.pk).update_one(
        set__as_of=row.as_of - earlier, set__seen_until=row.seen_until - earlier, set__verify_at=None
    )


@pytest.fixture
def change(elsewhere, price):
    """Changes the subscription; returns the event that tells of it."""

    def make(subscription, plan=None, **params):
        if plan:
            item = elsewhere.subscriptions.retrieve(subscription)["items"].data[0].id
            params |= {"items": [{"id": item, "price": price(plan)}], "proration_behavior": "none"}
        elsewhere.subscriptions.update(subscription, params)
        found = elsewhere.events.list({"type": UPDATED, "limit": 1}).data[0]
        return json.loads(json.dumps(found.to_dict(), default=str))

    return make


def ends(events):
    return [WebhookEvent.objects(event_id=each["id"]).first().outcome for each in events]


def test_updates_in_distinct_seconds_cost_no_request(known, change, deliver, run, asked):
    events = []
    for plan in ("business", "starter", "pro", "business"):
        price_event = change(known.subscription, plan)
        asked()
        events.append(price_event)
        deliver(price_event)
        run()
        assert asked() == 0
        assert (known.plan, known.row.plan) == (plan, plan)
        time.sleep(1.1)
    assert ends(events) == ["applied"] * 4
    assert known.row.version == 6
    assert [each.facts["to"] for each in OutboxSignal.objects(name="plan_changed").order_by("version")] == [
        "pro",
        "business",
        "starter",
        "pro",
        "business",
    ]
    assert known.row.verify_at is None
    assert int(known.row.as_of.timestamp()) == events[-1]["created"]


def test_twenty_stored_before_dispatch_cost_at_most_two_requests(known, change, deliver, run, asked):
    plans = ("business", "starter", "pro")
    events = [change(known.subscription, plans[number % 3]) for number in range(20)]
    for each in events:
        deliver(each)
    asked()
    run()
    assert asked() <= 2
    assert known.plan == plans[19 % 3]
    assert ends(events) == ["applied"] * 20
    assert known.row.verify_at is not None


def test_several_organizations_are_settled_together(billed, change, deliver, run, asked):
    them = [billed() for _ in range(5)]
    for it in them:
        age(it.org_id, 60)
    events = [change(it.subscription, "business") for it in them]
    for each in events:
        deliver(each)
    asked()
    run()
    assert asked() == 0
    assert [it.plan for it in them] == ["business"] * 5
    assert ends(events) == ["applied"] * 5


def test_the_same_second_is_looked_up(known, change, deliver, run, asked):
    first, second = change(known.subscription, "business"), change(known.subscription, "starter")
    second["created"] = first["created"]
    deliver(second)
    run()
    asked()
    deliver(first)
    run()
    assert asked() == 1
    assert known.plan == "starter"


def test_an_older_event_that_comes_later_does_not_turn_the_row_back(known, change, deliver, run, asked):
    older = change(known.subscription, "business")
    time.sleep(1.1)
    newer = change(known.subscription, "starter")
    deliver(newer)
    run()
    asked()
    deliver(older)
    run()
    assert asked() == 1
    assert (known.plan, ends([older, newer])) == ("starter", ["applied", "applied"])


def test_an_event_far_older_than_the_row_is_superseded(known, change, deliver, run, asked):
    event = change(known.subscription, "business")
    Subscription.objects(organization=known.org_id).update_one(
        set__as_of=known.row.as_of + timedelta(seconds=60) + 3 * DOUBT
    )
    asked()
    deliver(event)
    run()
    assert (asked(), ends([event]), known.plan) == (0, ["superseded"], "pro")
    assert WebhookEvent.objects(event_id=event["id"]).first().organization == known.org_id


@pytest.mark.parametrize(
    "doubtful",
    [
        {"api_version": "2031-01-01.unheard"},
        {"api_version": "2015-10-16"},
        {"api_version": None},
    ],
)
def test_a_version_that_nobody_reads_is_looked_up(known, change, deliver, run, asked, doubtful):
    event = change(known.subscription, "business") | doubtful
    asked()
    deliver(event)
    run()
    assert (asked(), known.plan) == (1, "business")


@pytest.mark.parametrize("seconds", [-70, 20])
def test_an_event_that_did_not_come_at_once_is_looked_up(known, change, deliver, run, asked, seconds):
    event = change(known.subscription, "business")
    event["created"] += seconds
    age(known.org_id, 100)
    asked()
    deliver(event)
    run()
    assert (asked(), known.plan) == (1, "business")


def test_an_event_of_the_second_of_the_look_is_looked_up(billed, change, deliver, run, asked):
    """The look may have been before or after it."""
    it = billed()
    event = change(it.subscription, "business")
    at = datetime.fromtimestamp(event["created"], UTC)
    Subscription.objects(organization=it.org_id).update_one(
        set__as_of=at - timedelta(milliseconds=50), set__seen_until=at
    )
    asked()
    deliver(event)
    run()
    assert (asked(), it.plan) == (1, "business")


def test_an_event_that_a_slow_look_has_seen_does_not_turn_the_row_back(billed, change, deliver, run, runtime, sandbox):
    """The look began before the first of two changes and ended after the second."""
    it = billed()
    slow = StripeGateway(
        api_key="sk_test_sandbox",
        api_base=runtime.settings.stripe_api_base,
        requests_per_second=1000,
        connect_timeout=1,
        read_timeout=8,
        redis=runtime.redis.quick,
    )
    sandbox.arm("delay", seconds=3.5, path=rf"/v1/subscriptions/{it.subscription}", key="sk_test_sandbox", method="GET")
    asked = {"stripe": slow, "plans": runtime.plans, "now": runtime.clock(), "source": "webhook"}
    looking = threading.Thread(target=lambda: follow(it.org_id, **asked))
    looking.start()
    time.sleep(1.2)
    first = change(it.subscription, "business")
    time.sleep(1.1)
    change(it.subscription, "starter")
    looking.join()
    assert it.plan == "starter"
    deliver(first)
    run()
    assert it.plan == "starter"


def test_another_event_that_waits_makes_it_a_look(known, change, deliver, run, asked):
    waits, event = change(known.subscription, "starter"), change(known.subscription, "business")
    deliver(waits)
    WebhookEvent.objects(event_id=waits["id"]).update_one(
        set__state="failed", set__next_attempt_at=known.row.as_of + timedelta(days=1)
    )
    time.sleep(1)
    asked()
    deliver(event)
    run()
    assert (asked(), known.plan) == (1, "business")


@pytest.mark.parametrize("word", ["past_due", "unpaid", "paused", "canceled"])
def test_what_is_not_paid_up_decides_anew(known, change, deliver, run, asked, sandbox, word):
    """A status that ends access is never taken from a payload."""
    event = change(known.subscription, "business")
    event["data"]["object"]["status"] = word
    asked()
    deliver(event)
    run()
    assert asked() >= 1
    assert (known.row.status, known.plan) == ("active", "business")


def test_a_payload_of_anothers_organization_is_not_believed(known, change, deliver, run, organization, row):
    event = change(known.subscription, "business")
    event["data"]["object"]["metadata"] = {"organizationId": str(organization())}
    deliver(event)
    run()
    assert row(event["id"]).outcome == "applied"  # Stripe's own metadata name nobody


def test_candidates_are_looked_at_again(known, change, subscribe, sandbox, deliver, run, asked, events_at_stripe):
    sandbox.advance(2)  # the older one is the organization's
    subscribe(known.customer, "starter")
    for each in events_at_stripe("customer.subscription.created"):
        deliver(each)
    run()
    assert known.row.candidates
    age(known.org_id, 60)
    event = change(known.subscription, "business")
    asked()
    deliver(event)
    run()
    assert asked() >= 2
    assert known.plan == "business"


def test_an_unresolved_price_is_looked_up_and_told_of(known, change, price, deliver, run, asked):
    event = change(known.subscription, None, metadata={"x": "y"})
    event["data"]["object"]["items"]["data"][0]["price"] |= {"id": "price_unheard_of", "metadata": {}}
    asked()
    deliver(event)
    run()
    assert (asked(), known.plan) == (1, "pro")


def test_a_slice_with_one_that_cannot_be_written_settles_the_others(billed, change, deliver, run, desk, asked):
    """A row that another writer moves meanwhile costs its own event a look, the others nothing."""
    from billing_service.webhooks import ledger, quick

    them = [billed() for _ in range(3)]
    for it in them:
        age(it.org_id, 60)
    for it in them:
        deliver(change(it.subscription, "business"))
    claimed = ledger.claim(10)
    lost = claimed[1]
    WebhookEvent.objects(id=lost.pk).update_one(set__lease_owner="somebody else")
    done = quick.settle_quickly(claimed, desk)
    assert {event.event_id for event, _ in done} == {each.event_id for each in claimed} - {lost.event_id}
    assert sorted(it.plan for it in them) == ["business", "business", "pro"]
    assert WebhookEvent.objects(id=lost.pk).first().state == "processing"


def test_a_look_that_may_lag_is_repeated_later(known, change, deliver, run, runtime, asked):
    first, second = change(known.subscription, "business"), change(known.subscription, "starter")
    deliver(first)
    deliver(second)
    run()
    newest = max(first["created"], second["created"])
    assert known.row.verify_at.timestamp() == newest + 20


def test_dispatch_wakes_the_verification(known, change, deliver, runtime):
    first, second = change(known.subscription, "business"), change(known.subscription, "starter")
    deliver(first)
    deliver(second)
    dispatch()
    connection = runtime.redis.client()
    held = {each.decode() for each in connection.zrange("rq:scheduler:scheduled_jobs", 0, -1)}
    assert any(each.startswith("verify-") for each in held), held


def test_a_row_that_cannot_be_read_holds_up_no_other(billed, change, deliver, run, row):
    good, broken = billed(), billed()
    events = {it: change(it.subscription, "business") for it in (good, broken)}
    Subscription._get_collection().update_one({"organization": broken.org_id}, {"$set": {"override": "nonsense"}})
    for each in events.values():
        deliver(each)
    run()
    assert (row(events[good]["id"]).state, good.plan) == ("succeeded", "business")
    assert row(events[broken]["id"]).state == "failed"


def test_what_personal_data_were_erased_from_is_looked_up(known, change, deliver, run, asked, runtime):
    event = change(known.subscription, "business")
    deliver(event)
    assert erase(event["data"]["object"]["customer"], now=runtime.clock()).events == 1
    asked()
    run()
    assert asked() > 0
    assert (known.plan, ends([event])) == ("business", ["applied"])
