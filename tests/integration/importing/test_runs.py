"""Imports over windows and pages: what they cost, what interrupts them, and who may go on."""

import json
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from bson import ObjectId

from billing_service import importing
from billing_service.documents import ImportItem, ImportRun, Organization, Subscription, database_now
from billing_service.errors import ImportRunning, ImportUnfinished
from billing_service.importing.holding import Hold
from billing_service.importing.listing import SPANS
from billing_service.importing.ownership import make_out_customers
from billing_service.importing.run import go_on
from billing_service.scans import LostLease


@pytest.fixture
def seeded(app, sandbox):
    """Makes many subscriptions at Stripe, and their organizations here."""

    def make(count, known=True, **rule):
        seeded = sandbox.seed(count, ["price_pro_monthly"], **rule)
        first = int(rule.get("organization_base", "5eed00000000000000000000"), 16)
        if known:
            Organization._get_collection().insert_many(
                [{"_id": ObjectId(f"{first + number:024x}"), "plan": "free"} for number in range(count)]
            )
        sandbox.clear_requests()
        return seeded

    return make


@pytest.fixture
def start(runtime):
    """Starts an import that writes."""
    return lambda **wanted: importing.start(importing.Wanted(**{"apply": True} | wanted), runtime.clock())[0]


def test_a_request_for_each_hundred(seeded, imported, sandbox):
    seeded(2_000)
    run = imported()
    asked = sandbox.requests(path="/v1/", limit=0)["count"]
    assert (run.listed, run.organizations, len(run.windows)) == (2_000, 2_000, SPANS)
    # A page for each hundred, a last one for each span, and those that find the oldest.
    assert asked <= 2_000 / 100 + SPANS + 10
    assert asked == run.stripe_requests
    assert Subscription.objects(synced_from="import", plan="pro").count() == 2_000
    assert Organization.objects(plan="pro").count() == 2_000


def test_a_small_account_is_one_window(seeded, imported, sandbox):
    seeded(90)
    run = imported()
    assert (run.listed, len(run.windows), run.stripe_requests) == (90, 1, 2)


def test_an_empty_account(imported):
    run = imported()
    assert (run.listed, run.organizations, dict(run.states)) == (0, 0, {})


def test_all_of_one_second(seeded, imported):
    seeded(450, created_from=1_750_000_000, created_to=1_750_000_001)
    assert imported().organizations == 450


def test_many_of_nobody_are_listed(seeded, imported):
    seeded(300)
    seeded(250, known=False, metadata_key="other", batch=2)
    seeded(150, known=False, organization_base="aaaa00000000000000000000", batch=3)
    run = imported()
    assert dict(run.reasons) == {"organization_missing": 250, "organization_unknown": 150}
    assert (run.organizations, run.listed) == (300, 700)
    run.reload()
    assert len(list(importing.items_of(run, state="unmapped", reason="organization_unknown"))) == 150
    assert len(list(importing.items_of(run))) == 700


def test_a_customer_with_more_than_a_page_of_subscriptions(app, runtime, desk, start):
    """The customers are gone through in pages; one may fill a page, or stand at its edge."""
    run, org_id, other = start(), ObjectId(), ObjectId()
    many = [("cus_a", org_id)] * 6_000 + [("cus_b", None), ("cus_b", other)] + [("cus_c", other)] * 4_990
    many += [("cus_d", None)] * 30 + [("cus_d", org_id)]
    ImportItem._get_collection().insert_many(
        [
            {
                "run": run.pk,
                "stripe_subscription_id": f"sub_{number:05}",
                "stripe_customer_id": customer,
                "organization": named,
                "state": "pending" if named else "unmapped",
                "reason": None if named else "foreign",
            }
            for number, (customer, named) in enumerate(many)
        ]
    )
    hold = Hold.take(desk)
    make_out_customers(hold, lambda: False)
    assert ImportItem.objects(run=run.pk, state="pending").count() == len(many)
    assert ImportItem.objects(stripe_customer_id="cus_d", organization=org_id).count() == 31
    assert ImportItem.objects(stripe_customer_id="cus_b", organization=other).count() == 2


def test_an_organization_with_more_subscriptions_than_are_read_at_once(
    organization, customer, subscribe, imported, item, start, desk
):
    org_id = organization()
    whose = customer(org_id)
    subscription = subscribe(whose, "pro")
    run = start()
    go_on(desk, stop_at("customers"))
    ImportItem._get_collection().insert_many(
        [
            {
                "run": run.pk,
                "stripe_subscription_id": f"sub_{number:05}",
                "stripe_customer_id": whose,
                "organization": org_id,
                "state": "pending",
                "expires_at": database_now() + timedelta(days=1),
                "snapshot": '{"id": "sub_x", "customer": "cus", "status": "incomplete_expired", "created": 1}',
            }
            for number in range(900)
        ]
    )
    ImportRun.objects().update(set__lease_until=database_now())
    assert go_on(desk, lambda: False)
    run.reload()
    assert (item(subscription), run.states) == (("imported", None), {"imported": 1, "beside": 900})


def stop_at(phase):
    return lambda: ImportRun.objects(active=True, phase=phase).count() > 0


def test_interrupted_it_goes_on_where_it_was(seeded, start, desk, finish, sandbox):
    seeded(1_500)
    run = start()
    sandbox.arm("delay", path="/v1/subscriptions$", times=None, seconds=0.15)
    go_on(desk, lambda: ImportRun.objects(listed__gte=100).count() > 0)
    sandbox.disarm()
    run.reload()
    read, requests = run.listed, run.stripe_requests
    assert (run.state, run.lease_owner, 0 < read < 1_500) == ("running", None, True)
    sandbox.clear_requests()
    done = finish(run)
    assert (done.listed, done.organizations, len(Subscription.objects)) == (1_500, 1_500, 1_500)
    assert sandbox.requests(path="/v1/", limit=0)["count"] == done.stripe_requests - requests
    assert done.stripe_requests - requests <= (1_500 - read) / 100 + SPANS
    assert {each.version for each in Subscription.objects.only("version")} == {1}


def test_a_cursor_that_is_gone_is_found_by_its_time(seeded, start, desk, finish, sandbox):
    seeded(900, created_from=1_750_000_000, created_to=1_750_000_900)
    run = start()
    sandbox.arm("delay", path="/v1/subscriptions$", times=None, seconds=0.15)
    go_on(desk, lambda: ImportRun.objects(listed__gte=200).count() > 0)
    sandbox.disarm()
    run.reload()
    windows = [window for window in run.windows if window.after and not window.done]
    assert windows
    for window in windows:
        sandbox.remove(window.after)
    done = finish(run)
    assert done.listed == 900
    assert len({each.stripe_subscription_id for each in ImportItem.objects.only("stripe_subscription_id")}) == 900


def test_one_at_a_time(start, runtime, desk):
    run = start()
    assert Hold.take(desk)
    assert importing.go_on(desk, lambda: False) is False
    assert start().pk == run.pk
    with pytest.raises(ImportRunning):
        importing.start(importing.Wanted(apply=True), runtime.clock(), restart=True)
    assert len(ImportRun.objects) == 1


def test_two_starts_at_once_make_one(runtime, app):
    made, lock = [], threading.Barrier(4)

    def begin():
        with app.app_context():
            lock.wait()
            try:
                made.append(importing.start(importing.Wanted(), runtime.clock())[0].pk)
            except ImportRunning:
                made.append(None)

    threads = [threading.Thread(target=begin) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len({each for each in made if each}) == len(ImportRun.objects) == 1


def test_other_options_do_not_go_on_with_it(start, runtime):
    run = start(apply=False)
    with pytest.raises(ImportUnfinished) as told:
        importing.start(importing.Wanted(apply=True), runtime.clock())
    assert "billing-service import)" in told.value.detail
    fresh, new = importing.start(importing.Wanted(apply=True), runtime.clock(), restart=True)
    run.reload()
    assert (new, run.state, run.active, fresh.pk != run.pk) == (True, "discarded", None, True)


def test_what_was_read_a_week_ago_is_not_written_now(start, runtime):
    """What was listed has changed since, and would be deleted one day: without it nothing would be left to decide."""
    run = start()
    run.update(set__started_at=runtime.clock() - timedelta(days=8))
    with pytest.raises(ImportUnfinished) as told:
        start()
    assert "--restart" in told.value.detail
    assert importing.start(importing.Wanted(apply=True), runtime.clock(), restart=True)[1] is True
    assert run.reload().state == "discarded"


def test_whoever_lost_the_lease_writes_nothing(seeded, start, desk):
    seeded(120)
    run = start()
    late = Hold.take(desk)
    ImportRun.objects(id=run.pk).update(set__lease_until=database_now())
    assert Hold.take(desk)
    with pytest.raises(LostLease):
        late.commit(lambda: ImportItem(run=run.pk, stripe_subscription_id="sub_late", state="kept").save() and None)
    with pytest.raises(LostLease):
        late.end("completed")
    run.reload()
    assert (run.state, run.active, len(ImportItem.objects)) == ("running", True, 0)


def test_a_holder_that_was_stopped_for_long_writes_no_row(seeded, start, desk, runtime):
    """It wakes in the middle of the rows, when another one is at it."""
    seeded(120)
    run = start()
    go_on(desk, stop_at("organizations"))
    from billing_service.importing import rows

    late = Hold.take(desk)
    ImportRun.objects(id=run.pk).update(set__lease_until=database_now())
    assert Hold.take(desk)
    with pytest.raises(LostLease):
        rows.write_rows(late, lambda: False)
    assert (len(Subscription.objects), ImportItem.objects(state="pending").count()) == (0, 120)


def test_an_outage_is_waited_for(seeded, start, desk, finish, sandbox):
    seeded(300)
    run = start()
    sandbox.arm("error", path="/v1/subscriptions$", status=500, times=None)
    assert importing.go_on(desk, lambda: False)
    run.reload()
    assert (run.state, run.outages, run.next_at is not None) == ("running", 1, True)
    assert "stripe_unavailable" in run.error
    assert importing.go_on(desk, lambda: False) is False
    sandbox.disarm()
    desk.stripe.circuit.succeeded()
    assert finish(run).organizations == 300


def test_an_outage_in_the_looks_is_waited_for(organization, customer, subscribe, start, desk, finish, sandbox, row):
    org_id = organization()
    whose = customer(org_id)
    subscribe(whose, "pro")
    subscribe(whose, "pro", payment_behavior="default_incomplete")
    run = start()
    go_on(desk, stop_at("organizations"))
    sandbox.arm("error", path="/v1/subscriptions", status=500, times=None)
    assert importing.go_on(desk, lambda: False)
    run.reload()
    assert (run.phase, run.outages, run.settled) == ("organizations", 1, 0)
    sandbox.disarm()
    desk.stripe.circuit.succeeded()
    assert finish(run).organizations == 1
    assert row(org_id).version == 1


def test_a_key_that_may_not_read_fails_it(seeded, start, desk, sandbox):
    run = start()
    sandbox.arm("error", path="/v1/subscriptions$", status=401, times=None)
    assert importing.go_on(desk, lambda: False)
    run.reload()
    assert (run.state, run.active) == ("failed", None)
    assert run.error.startswith("stripe_misconfigured")


def test_a_process_that_dies_each_time_is_given_up(start, desk):
    run = start()
    ImportRun.objects().update(set__lease_owner="dead", set__failures=4)
    assert importing.go_on(desk, lambda: False)
    run.reload()
    assert (run.state, "without progress" in run.error) == ("failed", True)


def test_whoever_gets_on_is_not_given_up(seeded, start, desk):
    """Four died before, this one fails, too, but has read a page."""
    seeded(50)
    run = start()
    run.update(set__failures=4)

    def fail():
        if ImportRun.objects(listed=50).count():
            raise RuntimeError("a bug")
        return False

    with pytest.raises(RuntimeError):
        importing.go_on(desk, fail)
    run.reload()
    assert (run.failures, run.listed, run.active) == (1, 50, True)


def test_an_outage_after_progress_is_the_first_one(seeded, start, desk, sandbox, runtime):
    seeded(50)
    run = start()
    run.update(set__outages=5)
    sandbox.arm("error", path="/v1/subscriptions$", status=500, times=None, after=1)
    assert importing.go_on(desk, lambda: False)
    run.reload()
    assert (run.phase, run.outages) == ("listing", 1)
    assert run.next_at - runtime.clock() <= timedelta(seconds=15)


def test_while_slow_readers_end_after_one_failed_nobody_spins(seeded, start, desk, sandbox):
    seeded(500)
    start()
    go_on(desk, stop_at("listing"))
    sandbox.arm("error", path="/v1/subscriptions$", status=401)
    sandbox.arm("delay", path="/v1/subscriptions$", times=None, seconds=0.8)
    looks = []
    ImportRun.objects().update(set__lease_until=database_now())
    importing.go_on(desk, lambda: looks.append(1))
    assert 0 < len(looks) < 20


LIES = {
    "the same page again": lambda first: first,
    "more, but nothing is shown": lambda first: first | {"data": []},
}


@pytest.mark.parametrize("lie", LIES)
def test_a_list_that_does_not_go_on_is_waited_for(seeded, start, desk, finish, sandbox, stripe, lie):
    """It is not taken for the end, and not read for ever."""
    seeded(90)
    first = json.loads(str(stripe.subscriptions.list({"limit": 50, "expand": ["data.customer"]})))
    run = start()
    pages = [first | {"has_more": True}, LIES[lie](first | {"has_more": True})]
    for page in pages:
        sandbox.arm("error", path="/v1/subscriptions$", status=200, body=page, after=1)
    deadline = time.monotonic() + 10
    importing.go_on(desk, lambda: time.monotonic() > deadline)
    run.reload()
    assert (run.active, run.listed, run.outages) == (True, 50, 1)
    assert finish(run).organizations == 90


def test_an_import_that_an_earlier_version_left_goes_on(seeded, finish):
    seeded(150, created_from=1_750_000_000, created_to=1_750_000_150)
    begun, until = (datetime.fromtimestamp(at, UTC) for at in (1_750_000_500, 1_750_000_400))
    window = {"since": datetime.fromtimestamp(0, UTC), "until": until, "at": until, "settled": [], "done": False}
    run = {"_id": ObjectId(), "active": True, "apply": True, "canceled": False, "actor": "ada", "state": "running"}
    run |= {"phase": "listing", "windows": [window], "lease_owner": "dead", "lease_until": begun, "fence": 3}
    run |= {"failures": 3, "outages": 0, "started_at": begun, "until": until, "listed": 0, "settled": 0}
    run |= {"stripe_requests": 1, "states": {}, "reasons": {}, "organizations": 0, "plans_changed": 0}
    ImportRun._get_collection().insert_one(run)
    done = finish(ImportRun.objects.get())
    assert (done.state, done.listed, done.organizations, done.actor) == ("completed", 150, 150, "ada")
    assert (done.fence, done.failures) == (4, 0)


def test_a_row_that_is_made_meanwhile_is_left_alone(seeded, start, desk, finish, runtime):
    """Another writer makes a row between the list and the write of its batch."""
    seeded(50)
    run = start()
    go_on(desk, stop_at("organizations"))
    org_id = ObjectId("5eed00000000000000000000")
    Subscription(organization=org_id, stripe_subscription_id="sub_theirs", plan="pro", version=7).save()
    done = finish(run)
    assert (done.states, done.organizations) == ({"imported": 49, "kept": 1}, 49)
    assert Subscription.objects(organization=org_id).first().version == 7


def test_webhooks_that_make_the_same_rows_at_the_same_time(seeded, start, desk, finish, runtime):
    """Threads make rows while the import writes its own: each organization has one, whoever was first."""
    from billing_service import subscriptions

    seeded(400)
    run = start()
    go_on(desk, stop_at("organizations"))

    def follow():
        for number in range(0, 400, 20):
            subscriptions.follow(
                ObjectId(f"{0x5EED00000000000000000000 + number:024x}"),
                stripe=runtime.stripe,
                plans=runtime.plans,
                now=runtime.clock(),
                source="webhook",
                seen=[f"sub_1Seed01{number:08d}"],
                seen_customers=[f"cus_Seed01{number:08d}"],
            )

    other = threading.Thread(target=follow)
    other.start()
    done = finish(run)
    other.join()
    assert len(Subscription.objects) == 400
    assert done.organizations + done.states.get("kept", 0) == 400
    # Each by the one or the other first: the second one leaves it alone, or writes the next version.
    assert {each.version for each in Subscription.objects} <= {1, 2}


def test_items_and_runs_are_not_kept_for_ever(seeded, imported):
    seeded(10)
    run = imported()
    kept = ImportItem.objects.first().expires_at - run.started_at
    assert timedelta(days=29) < kept < timedelta(days=31)
    assert run.expires_at - run.started_at == timedelta(days=365)
    assert ImportItem.objects(snapshot__exists=True).count() == 0
