"""From an event at Stripe to the organization's row: ownership, failures, neighbours, outages."""

import dataclasses
import threading
import time
from datetime import timedelta
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from bson import ObjectId

from billing_service.documents import Finding, Organization, Subscription, WebhookEvent, database_now
from billing_service.documents.subscription import Candidate
from billing_service.jobs.dispatch import dispatch
from billing_service.webhooks import handle_due, ledger, wake_attached, wake_organization
from billing_service.webhooks.dispatch import _look_once


def stored(org_id):
    return Subscription.objects(organization=org_id).first()


def plan_of(org_id):
    return Organization.objects(id=org_id).first().plan


def test_a_subscription_reaches_its_organization(organization, subscribed, arrive, run, row):
    org_id = organization()
    live = subscribed(org_id)
    ids = arrive()
    run()
    assert plan_of(org_id) == "pro"
    assert (stored(org_id).stripe_subscription_id, stored(org_id).status) == (live.id, "active")
    assert {(row(each).state, row(each).outcome, row(each).organization) for each in ids} == {
        ("succeeded", "applied", org_id)
    }


def test_every_change_follows(organization, subscribed, arrive, run, stripe):
    org_id = organization()
    live = subscribed(org_id)
    arrive()
    run()
    stripe.subscriptions.update(live.id, {"cancel_at_period_end": True})
    arrive()
    run()
    assert stored(org_id).cancel_at_period_end is True
    stripe.subscriptions.cancel(live.id)
    arrive()
    run()
    assert (stored(org_id).status, plan_of(org_id)) == ("canceled", "free")


def test_late_events_in_any_order_end_where_stripe_ends(
    organization, subscribed, deliver, events_at_stripe, run, stripe
):
    org_id = organization()
    live = subscribed(org_id)
    stripe.subscriptions.update(live.id, {"cancel_at_period_end": True})
    stripe.subscriptions.cancel(live.id)
    kinds = [f"customer.subscription.{word}" for word in ("created", "updated", "deleted")]
    for each in events_at_stripe(*kinds)[::-1]:
        deliver(each)
        run()
    assert (stored(org_id).status, plan_of(org_id)) == ("canceled", "free")


def test_the_customers_metadata_names_the_organization(organization, subscribed, arrive, run):
    org_id = organization()
    subscribed(customer_organization=org_id)
    arrive()
    run()
    assert plan_of(org_id) == "pro"


def test_the_row_names_the_organization(organization, subscribed, arrive, run, runtime):
    by_subscription, by_customer, by_candidate = organization(), organization(), organization()
    first, second, third = subscribed(), subscribed(), subscribed()
    Subscription(organization=by_subscription, plan="free", stripe_subscription_id=first.id).save()
    Subscription(organization=by_customer, plan="free", stripe_customer_id=second.customer).save()
    candidate = Candidate(stripe_subscription_id=third.id, stripe_customer_id=third.customer)
    Subscription(organization=by_candidate, plan="free", candidates=[candidate]).save()
    arrive()
    run()
    assert [plan_of(each) for each in (by_subscription, by_customer, by_candidate)] == ["pro"] * 3


def test_anothers_product_is_ignored(subscribed, arrive, run, row):
    subscribed(price="price_of_another_product")
    [event_id] = arrive()
    run()
    assert (row(event_id).state, row(event_id).outcome) == ("succeeded", "ignored")
    assert Subscription.objects().first() is None


@pytest.mark.parametrize("named", ["f" * 24, "not-an-id", None])
def test_an_unknown_organization_waits_and_is_then_dead(subscribed, arrive, run, row, named):
    subscribed(named)
    [event_id] = arrive()
    run()
    assert (row(event_id).state, row(event_id).reason) == ("failed", "organization_unknown")
    for _ in range(4):
        run(later=True)
    assert (row(event_id).state, row(event_id).attempts) == ("dead", 5)
    assert Subscription.objects().first() is None


@pytest.mark.parametrize("state", ["failed", "dead"])
def test_telling_of_the_organization_wakes_what_waited(organization, subscribed, arrive, run, row, state):
    org_id = ObjectId()
    subscribed(org_id)
    [event_id] = arrive()
    run()
    if state == "dead":
        for _ in range(4):
            run(later=True)
    assert row(event_id).state == state
    organization(id=org_id)
    assert wake_organization(org_id) == 1
    assert wake_organization(ObjectId()) == 0
    run()
    assert (row(event_id).state, plan_of(org_id)) == ("succeeded", "pro")


def test_attaching_wakes_what_named_nobody(organization, subscribed, arrive, run, row):
    live = subscribed()
    [event_id] = arrive()
    run()
    assert row(event_id).state == "failed"
    org_id = organization()
    Subscription(organization=org_id, plan="free", stripe_customer_id=live.customer).save()
    assert wake_attached(org_id, subscriptions=[live.id], customers=[live.customer]) == 1
    run()
    assert (row(event_id).state, plan_of(org_id)) == ("succeeded", "pro")


def test_metadata_that_was_corrected_counts(organization, subscribed, arrive, run, row, stripe):
    org_id = organization()
    live = subscribed(ObjectId())
    [event_id] = arrive()
    stripe.subscriptions.update(live.id, {"metadata": {"organizationId": str(org_id)}})
    run()
    assert (row(event_id).outcome, plan_of(org_id)) == ("applied", "pro")


def test_two_organizations_are_a_conflict(organization, subscribed, arrive, run, row):
    mine, other = organization(), organization()
    live = subscribed(other)
    Subscription(organization=mine, plan="free", stripe_subscription_id=live.id).save()
    [event_id] = arrive()
    run()
    assert (row(event_id).state, row(event_id).reason) == ("dead", "organization_conflict")
    finding = Finding.objects(kind="organization_conflict").first()
    assert (finding.organization, finding.stripe_subscription_ids) == (mine, [live.id])
    assert (plan_of(mine), plan_of(other), stored(other)) == ("free", "free", None)


def test_a_customer_serves_one_organization(organization, subscribed, arrive, run, row):
    mine, other = organization(), organization()
    live = subscribed(other)
    Subscription(organization=mine, plan="free", stripe_customer_id=live.customer).save()
    [event_id] = arrive()
    run()
    assert (row(event_id).state, row(event_id).reason) == ("dead", "customer_shared")
    assert Finding.objects(kind="customer_shared").first().organization == mine
    assert stored(other) is None


def test_a_missing_subscription_is_a_failure_and_changes_nothing(organization, subscribed, arrive, run, row, sandbox):
    org_id = organization()
    live = subscribed(org_id)
    [event_id] = arrive()
    sandbox.remove(live.id)
    run()
    assert (row(event_id).state, row(event_id).reason) == ("failed", "handler_failed")
    assert row(event_id).history[-1].error_class == "StripeMissing"
    assert stored(org_id) is None


@pytest.mark.parametrize(
    ("fault", "more"),
    [("error", {}), ("rate_limited", {"retry_after": 1}), ("drop", {}), ("timeout_before", {"seconds": 2})],
)
def test_it_reports_stripe_down(organization, subscribed, arrive, run, row, sandbox, runtime, fault, more):
    """Waits without using an attempt, and is applied when Stripe is back."""
    org_id = organization()
    subscribed(org_id)
    [event_id] = arrive()
    sandbox.arm(fault, path="/v1/", times=None, **more)
    run()
    waiting = row(event_id)
    assert (waiting.state, waiting.reason, waiting.attempts, waiting.deferrals) == ("failed", "outage", 0, 1)
    sandbox.disarm()
    runtime.stripe.circuit.succeeded()
    time.sleep(1.1 if fault == "rate_limited" else 0)
    run(later=True)
    assert (row(event_id).state, plan_of(org_id)) == ("succeeded", "pro")


def test_a_poison_event_harms_no_neighbour(organization, subscribed, deliver, event_of, arrive, run, row):
    first, second = organization(), organization()
    subscribed(first)
    subscribed(second)
    poison = event_of("customer.subscription.updated", {"object": "subscription", "id": "sub_poison"}, created=1)
    deliver(poison)
    ids = arrive()
    ends = run()
    assert (plan_of(first), plan_of(second)) == ("pro", "pro")
    assert {row(each).state for each in ids} == {"succeeded"}
    assert (row(poison["id"]).state, row(poison["id"]).attempts) == ("failed", 1)
    assert ends["failed"] == 1


def test_a_holder_that_lost_its_event_changes_nothing(organization, subscribed, arrive, desk, row):
    from billing_service.webhooks import handle

    org_id = organization()
    subscribed(org_id)
    [event_id] = arrive()
    [mine] = ledger.claim(1)
    WebhookEvent.objects(id=mine.pk).update_one(set__lease_until=database_now() - timedelta(seconds=1))
    ledger.return_expired()
    [theirs] = ledger.claim(1)
    assert handle(mine, desk, ledger.Trial()) == "lease_lost"
    assert (stored(org_id), plan_of(org_id)) == (None, "free")
    assert row(event_id).state == "processing"
    assert handle(theirs, desk, ledger.Trial()) == "applied"
    assert plan_of(org_id) == "pro"


def test_stopping_returns_what_was_not_begun(organization, subscribed, arrive, desk, row):
    for _ in range(4):
        subscribed(organization())
    ids = arrive()
    asked = []

    def stop():
        asked.append(1)
        return len(asked) > 4  # once for the claim, then twice for each event

    handle_due(desk, stop=stop)
    states = [row(each).state for each in ids]
    assert states == ["succeeded", "succeeded", "received", "received"]


@pytest.mark.parametrize(("events", "gathered"), [(1, 0), (3, 1), (4, 0), (6, 1)])
def test_only_a_slice_of_several_that_is_not_full_lets_the_next_one_grow(
    organization, subscribed, arrive, desk, events, gathered
):
    for _ in range(events):
        subscribed(organization())
    arrive()
    pauses = []
    ends = handle_due(desk, stop=lambda: False, limit=4, gather=lambda: pauses.append(1))
    assert (ends["applied"], len(pauses)) == (events, gathered)


def test_two_workers_apply_each_event_once(organization, subscribed, arrive, app, desk, row):
    orgs = [organization() for _ in range(6)]
    for org_id in orgs:
        subscribed(org_id)
    ids = arrive()

    def work():
        with app.app_context():
            handle_due(desk, stop=lambda: False, limit=2)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    handle_due(desk, stop=lambda: False)
    assert {row(each).state for each in ids} == {"succeeded"}
    assert {len(row(each).history) for each in ids} == {1}
    assert {stored(org_id).version for org_id in orgs} == {1}


def test_the_job_wakes_itself_for_what_waits(subscribed, arrive, runtime):
    subscribed(ObjectId())
    arrive()
    assert dispatch() == {"failed": 1}
    [(entry, at)] = runtime.redis.client().zrange("rq:scheduler:scheduled_jobs", 0, -1, withscores=True)
    assert entry.decode() == f"wakeup-{int(at)}"
    assert 7 <= at - time.time() <= 14


class _Quiet(WSGIRequestHandler):
    def log_message(self, format, *args):
        pass


def test_the_sandbox_delivers_signed_events(app, sandbox, stripe, runtime, organization, subscribed, run, row):
    server = make_server("127.0.0.1", 0, app, handler_class=_Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/api/billing/webhook"
    endpoint = stripe.webhook_endpoints.create({"url": url, "enabled_events": ["customer.subscription.created"]})
    settings = dataclasses.replace(
        runtime.settings, stripe_webhook_secrets=("whsec_another_endpoint_00", endpoint.secret)
    )
    app.extensions["billing"] = dataclasses.replace(runtime, settings=settings)
    try:
        org_id = organization()
        subscribed(org_id)
        [held] = sandbox.deliveries(state="held")
        twice = sandbox.duplicate(held["id"])
        outcomes = sandbox.release([held["id"], twice["id"]])
        assert [each["state"] for each in outcomes] == ["succeeded", "succeeded"]
    finally:
        app.extensions["billing"] = runtime
        server.shutdown()
        server.server_close()
    run()
    event = row(held["event"])
    assert (event.state, event.outcome, event.secret_index) == ("succeeded", "applied", 1)
    assert len(event.history) == 1
    assert plan_of(org_id) == "pro"


def test_a_slice_that_is_slow_to_read_still_comes_to_its_end(app, desk, deliver, event_of, sandbox):
    """However short the time: each slice ends at least one event, so that none is begun for ever."""
    for number in range(6):
        invoice = {"object": "invoice", "id": f"in_{number}", "customer": "cus_f", "subscription": f"sub_f{number}"}
        deliver(event_of("invoice.paid", invoice))
    sandbox.arm("delay", seconds=0.1, times=None)
    for done in range(1, 4):
        ended = iter((False, True))
        handle_due(desk, stop=lambda: next(ended, True))  # noqa: B023
        assert WebhookEvent.objects(history__ne=[]).count() >= done


def test_one_look_for_many_that_fail_alike(billed, deliver, event_of, sandbox, run):
    it = billed()
    subscription = {"object": "subscription", "id": it.subscription, "customer": it.customer, "status": "canceled"}
    for _ in range(20):
        deliver(event_of("customer.subscription.deleted", subscription | {"created": 1, "items": {"data": []}}))
    sandbox.remove(it.subscription)
    sandbox.clear_requests()
    assert run()["failed"] == 20
    assert sandbox.requests(limit=1)["count"] <= 3


def test_a_lease_that_is_lost_costs_its_neighbours_nothing(billed, deliver, event_of, desk, row):
    it = billed()
    invoice = {"object": "invoice", "id": "in_1", "customer": it.customer, "subscription": it.subscription}
    ids = []
    for _ in range(3):
        ids.append(event_of("invoice.paid", invoice)["id"])
        deliver(event_of("invoice.paid", invoice) | {"id": ids[-1]})
    events = ledger.claim(10)
    WebhookEvent.objects(event_id=ids[0]).update_one(set__lease_owner="another")
    ends = {event.event_id: end for event, end in _look_once(events, desk, lambda: False)}
    assert ends == {ids[0]: "lease_lost", ids[1]: "applied", ids[2]: "applied"}


def test_where_an_event_was_shown_does_not_say_whose_it_is(
    billed, subscribe, stripe, deliver, events_at_stripe, run, row
):
    """It was stored while its customer was an organization's; an admin corrected that before it was handled."""
    it = billed()
    stripe.customers.update(it.customer, {"metadata": {"organizationId": ""}})
    subscribe(it.customer, "business")
    event = events_at_stripe("customer.subscription.created")[-1]
    deliver(event)
    assert row(event["id"]).organization == it.org_id
    other = stripe.customers.create({}).id
    Subscription.objects(organization=it.org_id).update_one(
        set__stripe_customer_id=other, set__stripe_subscription_id=subscribe(other, "pro"), inc__version=1
    )
    for _ in range(2):
        run(later=True)
        assert (row(event["id"]).state, row(event["id"]).reason) == ("failed", "organization_unknown")
    assert it.row.candidates == []


def test_what_named_an_unknown_organization_and_names_nobody_now_makes_no_row(subscribed, stripe, arrive, run, row):
    live = subscribed(ObjectId(), price="price_of_another_product")
    ids = arrive("customer.subscription.created", "invoice.paid")
    run()
    assert {row(each).reason for each in ids} == {"organization_unknown"}
    stripe.subscriptions.update(live.id, {"metadata": {"organizationId": ""}})
    run(later=True)
    assert len(Subscription.objects) == 0
    assert {row(each).outcome for each in ids} == {"ignored"}
