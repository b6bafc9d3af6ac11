"""Writers at the same time, late, twice, or dying half way: the row equals Stripe's in the end."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from bson import ObjectId

from billing_service import subscriptions
from billing_service.documents import (
    AdminAction,
    AdminOperation,
    Finding,
    Organization,
    OutboxSignal,
    Subscription,
    in_transaction,
)
from billing_service.errors import Conflict
from billing_service.subscriptions import convergence
from billing_service.subscriptions.observation import observe

SYNC = "/api/admin/billing/sync/"


def together(wired, *works):
    """Run the works at the same moment, each in its own thread with the application's context."""
    gate = threading.Barrier(len(works))

    def run(work):
        with wired.app_context():
            gate.wait()
            return work()

    with ThreadPoolExecutor(len(works)) as pool:
        return [each.result() for each in [pool.submit(run, work) for work in works]]


def test_many_syncs_at_once_make_one_transition(app, admin, billed):
    it = billed("pro", stored=False)
    post = lambda: app.test_client().post(f"{SYNC}{it.org_id}", headers=admin).status_code
    assert set(together(app, *[post] * 8)) == {200}
    assert (it.row.plan, it.plan) == ("pro", "pro")
    assert OutboxSignal.objects(organization=it.org_id, name="plan_changed").count() == 1


def test_the_same_key_at_once_runs_once(app, admin, billed):
    it = billed("pro", stored=False)
    headers = admin | {"Idempotency-Key": "at-once"}

    def post():
        answer = app.test_client().post(f"{SYNC}{it.org_id}", headers=headers)
        return answer.status_code, answer.json.get("code")

    answers = together(app, *[post] * 6)
    assert set(answers) <= {(200, None), (409, "idempotency_in_progress")}
    assert (200, None) in answers
    assert len(AdminOperation.objects) == 1
    assert AdminAction.objects(phase="outcome").count() == 1


def test_the_first_row_of_an_organization_is_made_once(app, runtime, organization, stripe, subscribe):
    org_id = organization()
    subscription = subscribe(stripe.customers.create({"metadata": {"organizationId": str(org_id)}}).id)

    def follow():
        return subscriptions.follow(
            org_id,
            stripe=runtime.stripe,
            plans=runtime.plans,
            now=runtime.clock(),
            source="webhook",
            seen=(subscription,),
        )

    together(app, *[follow] * 6)
    assert Subscription.objects(organization=org_id).count() == 1
    assert Organization.objects(id=org_id).first().plan == "pro"
    assert OutboxSignal.objects(organization=org_id).count() == 1


def test_one_customer_claimed_by_two_organizations_at_once_has_one(app, admin, organization, stripe, subscribe):
    first, second = organization(), organization()
    subscription = subscribe(stripe.customers.create({}).id)

    def link(org_id):
        return lambda: app.test_client().post(
            f"/api/admin/billing/link/{org_id}", headers=admin, json={"stripeSubscriptionId": subscription}
        )

    answers = together(app, link(first), link(second))
    assert sorted(each.status_code for each in answers) == [200, 409]
    assert next(each.json["code"] for each in answers if each.status_code == 409) == "customer_shared"
    assert Subscription.objects(stripe_subscription_id=subscription).count() == 1


def test_a_slower_look_does_not_overwrite_a_newer_one(runtime, billed, stripe):
    """The look that was made first is written last: it is thrown away and made again."""
    it = billed("pro")
    looks = []

    def look(row):
        seen = observe(runtime.stripe, row)
        looks.append(seen.chosen.status)
        if len(looks) == 1:
            stripe.subscriptions.cancel(it.subscription)
            subscriptions.sync(it.org_id, stripe=runtime.stripe, plans=runtime.plans, now=runtime.clock())
        return seen

    convergence.converge(it.org_id, look, plans=runtime.plans, now=runtime.clock(), source="webhook")
    assert looks == ["active", "canceled"]
    assert (it.row.status, it.row.plan) == ("canceled", "free")


def test_a_row_that_others_change_all_the_time_is_a_conflict_and_nothing_is_written(runtime, billed):
    it = billed("pro")

    def look(row):
        Subscription.objects(organization=it.org_id).update_one(inc__version=1)
        return observe(runtime.stripe, row)

    before = it.row.synced_from
    with pytest.raises(Conflict):
        convergence.converge(it.org_id, look, plans=runtime.plans, now=runtime.clock(), source="webhook")
    assert it.row.synced_from == before


def test_all_of_a_decision_or_nothing(runtime, billed):
    it = billed("pro", stored=False)

    def die(change):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convergence.converge(
            it.org_id,
            lambda row: observe(runtime.stripe, row),
            plans=runtime.plans,
            now=runtime.clock(),
            source="webhook",
            also=die,
        )
    assert (it.row.plan, it.plan, len(OutboxSignal.objects), len(Finding.objects)) == ("free", "free", 0, 0)


def test_a_look_older_than_the_row_is_made_again(runtime, billed):
    it = billed("pro")
    ahead = it.row.as_of + timedelta(hours=1)
    Subscription.objects(organization=it.org_id).update_one(set__as_of=ahead)
    looks = []

    def look(row):
        looks.append(1)
        if len(looks) == 3:
            Subscription.objects(organization=it.org_id).update_one(set__as_of=row.as_of - timedelta(hours=2))
        return observe(runtime.stripe, row)

    convergence.converge(it.org_id, look, plans=runtime.plans, now=runtime.clock(), source="webhook")
    assert len(looks) > 3


def test_an_operation_that_died_half_way_is_resumed_by_its_key(app, client, admin, billed, runtime):
    it = billed("pro", stored=False)
    headers = admin | {"Idempotency-Key": "died"}
    client.post(f"{SYNC}{it.org_id}", headers=headers)
    past = runtime.clock() - timedelta(minutes=5)
    AdminOperation.objects.update_one(set__state="started", set__stored=False, set__lease_until=past)
    answer = client.post(f"{SYNC}{it.org_id}", headers=headers)
    assert (answer.status_code, answer.json["changed"]) == (200, [])
    assert AdminOperation.objects.first().attempt == 2


def test_a_running_operation_refuses_its_key(app, client, admin, billed, runtime):
    it = billed("pro", stored=False)
    headers = admin | {"Idempotency-Key": "running"}
    client.post(f"{SYNC}{it.org_id}", headers=headers)
    later = runtime.clock() + timedelta(minutes=1)
    AdminOperation.objects.update_one(set__state="started", set__stored=False, set__lease_until=later)
    answer = client.post(f"{SYNC}{it.org_id}", headers=headers)
    assert (answer.status_code, answer.json["code"]) == (409, "idempotency_in_progress")
    assert int(answer.headers["Retry-After"]) > 0


def test_a_cancel_does_not_overwrite_what_was_written_while_it_looked(
    app, admin, billed, runtime, stripe, sandbox, subscribe, price
):
    """Between the cancel's looks the customer upgrades, and the upgrade is written: the cancel looks again."""
    it = billed("starter")
    sandbox.advance(5)
    second = subscribe(it.customer, "starter")
    upgraded = price("business")
    # The list that the cancel reads after it saw the cancellation takes long enough for somebody else to write.
    sandbox.arm("delay", seconds=0.8, times=1, after=1, method="GET", path=r"/v1/subscriptions$")

    def cancel():
        return app.test_client().post(
            f"/api/admin/billing/cancel/{it.org_id}", headers=admin, json={"stripeSubscriptionId": second}
        )

    def upgrade():
        while not sandbox.requests(method="DELETE")["items"]:
            time.sleep(0.01)
        item = stripe.subscriptions.retrieve(it.subscription)["items"].data[0].id
        stripe.subscriptions.update(it.subscription, {"items": [{"id": item, "price": upgraded}]})
        subscriptions.follow(
            it.org_id,
            stripe=runtime.stripe,
            plans=runtime.plans,
            now=runtime.clock(),
            source="webhook",
            seen=(it.subscription,),
        )

    answer, _ = together(app, cancel, upgrade)
    assert answer.status_code == 200
    assert (it.row.stripe_subscription_id, it.row.plan, it.row.candidates) == (it.subscription, "business", [])


def test_a_sync_right_after_an_event_is_looked_at_again(runtime, billed):
    """Its own read may lag behind an event that is known already."""
    from billing_service.documents import WebhookEvent

    it = billed("pro")
    now = runtime.clock()
    WebhookEvent(
        event_id="evt_newest",
        type="customer.subscription.updated",
        created=now,
        received_at=now,
        source="delivery",
        state="succeeded",
        stripe_subscription_id=it.subscription,
    ).save()
    subscriptions.sync(it.org_id, stripe=runtime.stripe, plans=runtime.plans, now=now)
    assert it.row.verify_at == now + timedelta(seconds=20)


def test_one_row_that_cannot_be_looked_at_does_not_hold_up_the_others(runtime, billed, sandbox, stripe):
    first, second = billed("pro"), billed("pro")
    due = runtime.clock()
    Subscription.objects(organization=first.org_id).update_one(
        set__verify_at=due - timedelta(minutes=1), set__stripe_subscription_id="not readable"
    )
    Subscription.objects(organization=second.org_id).update_one(set__verify_at=due)
    stripe.subscriptions.cancel(second.subscription)
    subscriptions.verify_due(stripe=runtime.stripe, plans=runtime.plans, now=due + timedelta(seconds=1))
    assert second.row.status == "canceled"
    assert first.row.verify_at > due


def test_findings_of_several_live_ones_end_with_what_they_name(client, admin, billed, subscribe, sandbox, stripe):
    it = billed("pro")
    sandbox.advance(5)
    second = subscribe(it.customer, "starter")
    client.post(f"{SYNC}{it.org_id}", headers=admin)
    sandbox.advance(5)
    third = subscribe(it.customer, "business")
    client.post(f"{SYNC}{it.org_id}", headers=admin)
    open_ones = Finding.objects(organization=it.org_id, state="open")
    assert [set(each.stripe_subscription_ids) for each in open_ones] == [{it.subscription, second, third}]
    for over in (second, third):
        stripe.subscriptions.cancel(over)
    client.post(f"{SYNC}{it.org_id}", headers=admin)
    assert Finding.objects(organization=it.org_id, state="open").count() == 0


def test_an_operation_whose_process_died_gets_its_second_audit_row(app, client, admin, billed, runtime):
    from billing_service.operations import settle_lapsed

    it = billed("pro", stored=False)
    client.post(f"{SYNC}{it.org_id}", headers=admin | {"Idempotency-Key": "gone"})
    AdminAction.objects(phase="outcome").delete()
    AdminOperation.objects.update_one(set__state="started", set__stored=False, set__lease_until=runtime.clock())
    assert settle_lapsed(clock=lambda: runtime.clock() + timedelta(minutes=9)) == 0  # it may only be slow
    later = lambda: runtime.clock() + timedelta(minutes=11)
    assert settle_lapsed(clock=later) == 1
    assert settle_lapsed(clock=later) == 0
    outcome = AdminAction.objects(phase="outcome").first()
    assert (outcome.outcome, "died" in outcome.error) == ("failed", True)
    answer = client.post(f"{SYNC}{it.org_id}", headers=admin | {"Idempotency-Key": "gone"})
    assert answer.status_code == 200


def test_a_slow_attempt_that_was_taken_over_does_not_answer(app, runtime, billed):
    from billing_service.errors import IdempotencyInProgress
    from billing_service.operations import Asked, Outcome, perform

    it = billed("pro")
    asked = Asked("sync", str(it.org_id), it.org_id, "ada", "admin", "POST /x", {}, idempotency_key="slow")

    def slow(running):
        AdminOperation.objects(id=running.record.pk).update_one(inc__attempt=1)
        return Outcome(answer={"from": "slow"})

    with pytest.raises(IdempotencyInProgress):
        perform(asked, runtime.clock, slow)
    assert AdminOperation.objects.first().answer == {}
    assert AdminAction.objects(phase="outcome").count() == 0


def test_contended_transactions_all_land(app):
    """MongoEngine hides the label that asks for another try; without unwrapping it most of these are lost."""
    org_id = ObjectId()
    Subscription(organization=org_id, plan="free").save()

    def raise_quantity():
        for _ in range(10):
            in_transaction(lambda: Subscription.objects(organization=org_id).update_one(inc__quantity=1))

    together(app, *[raise_quantity] * 4)
    assert Subscription.objects(organization=org_id).first().quantity == 40


def test_an_override_ends_by_itself(runtime, billed):
    from billing_service.documents import Override

    it = billed("pro")
    until = runtime.clock() + timedelta(hours=1)
    Subscription.objects(organization=it.org_id).update_one(
        set__override=Override(plan="business", until=until), set__plan="business"
    )
    assert subscriptions.lift_expired_overrides(plans=runtime.plans, now=until - timedelta(seconds=1)) == 0
    assert subscriptions.lift_expired_overrides(plans=runtime.plans, now=until) == 1
    assert (it.row.plan, it.plan, it.row.override) == ("pro", "pro", None)
    assert subscriptions.lift_expired_overrides(plans=runtime.plans, now=until) == 0


def test_a_row_whose_look_may_have_lagged_is_looked_at_again(runtime, billed, stripe):
    it = billed("pro")
    Subscription.objects(organization=it.org_id).update_one(set__verify_at=runtime.clock())
    stripe.subscriptions.cancel(it.subscription)
    later = runtime.clock() + timedelta(seconds=1)
    assert subscriptions.verify_due(stripe=runtime.stripe, plans=runtime.plans, now=later) == 1
    assert (it.row.status, it.row.plan, it.row.verify_at, it.row.synced_from) == ("canceled", "free", None, "verify")
