"""PATCH /api/admin/billing/plans/bump"""

import threading
from datetime import timedelta

import pytest
from bson import ObjectId

from billing_service import subscriptions
from billing_service.blueprints.wire import iso
from billing_service.documents import EPOCH, AdminAction, Organization, OutboxSignal, Subscription
from billing_service.jobs.sweep import sweep

URL = "/api/admin/billing/plans/bump"


def bump(client, headers, org_id, plan, query="", **more):
    return client.patch(f"{URL}{query}", headers=headers, json={"orgId": str(org_id), "planId": plan} | more)


def row_of(org_id):
    return Subscription.objects(organization=org_id).first()


def plan_of(org_id):
    return Organization.objects(id=org_id).first().plan


@pytest.fixture
def later(runtime):
    """A time so many days ahead."""
    return lambda days: (runtime.clock() + timedelta(days=days)).replace(microsecond=0)


def sync(it, runtime):
    return subscriptions.sync(it.org_id, stripe=runtime.stripe, plans=runtime.plans, now=runtime.clock())


def test_it_works(client, admin, billed, sandbox, later):
    it, until = billed("pro"), later(30)
    sandbox.clear_requests()
    answer = bump(client, admin, it.org_id, "business", until=iso(until), note="goodwill")
    assert answer.status_code == 200
    assert (answer.json["plan"], answer.json["changed"]) == ("business", ["override", "plan"])
    shown = answer.json["updated"]["override"]
    assert (shown["plan"], shown["note"], shown["actor"]) == ("business", "goodwill", "ada@example.com")
    assert shown["until"] == iso(until)
    assert (it.row.plan, it.row.stripe_plan, it.plan, it.row.synced_from) == ("business", "pro", "business", "bump")
    assert (it.row.override.plan, it.row.override.until) == ("business", until)
    assert sandbox.requests()["count"] == 0
    [signal] = OutboxSignal.objects(name="plan_changed", facts__to="business")
    assert (signal.facts["from"], signal.facts["direction"]) == ("pro", "upgrade")
    intent, outcome = AdminAction.objects(action="bump").order_by("at", "id")
    assert (intent.phase, outcome.phase, outcome.outcome, outcome.note) == (
        "intent",
        "outcome",
        "succeeded",
        "goodwill",
    )
    assert (outcome.before["plan"], outcome.after["plan"]) == ("pro", "business")


def test_twice_is_once(client, admin, token, billed, later):
    it, until = billed("pro"), iso(later(30))
    bump(client, admin, it.org_id, "business", until=until)
    again = bump(client, token("admin", actor="bob@example.com"), it.org_id, "business", until=until)
    assert (again.status_code, again.json["changed"]) == (200, [])
    assert it.row.override.actor == "ada@example.com"
    assert OutboxSignal.objects(name="plan_changed", facts__to="business").count() == 1


def test_stripe_does_not_undo_it(client, admin, billed, sandbox, runtime):
    it = billed("pro")
    bump(client, admin, it.org_id, "business")
    for status in ("past_due", "canceled"):
        sandbox.patch(it.subscription, {"status": status})
        sync(it, runtime)
        assert (it.row.status, it.row.plan, it.plan) == (status, "business", "business")


def test_null_lifts_it(client, admin, billed):
    it = billed("pro")
    bump(client, admin, it.org_id, "business")
    answer = bump(client, admin, it.org_id, None)
    assert (answer.status_code, answer.json["plan"], answer.json["updated"]["override"]) == (200, "pro", None)
    assert (it.row.override, it.row.plan, it.plan) == (None, "pro", "pro")
    assert bump(client, admin, it.org_id, None).json["changed"] == []


def test_lifted_it_leaves_what_stripe_has_shown_meanwhile(client, admin, billed, sandbox, runtime):
    it = billed("pro")
    bump(client, admin, it.org_id, "business")
    sandbox.patch(it.subscription, {"status": "canceled"})
    sync(it, runtime)
    assert bump(client, admin, it.org_id, None).json["plan"] == "free"


def test_it_may_grant_less_than_is_paid(client, admin, billed):
    it = billed("pro")
    answer = bump(client, admin, it.org_id, "free", note="abuse")
    assert (answer.json["plan"], it.plan) == ("free", "free")
    assert OutboxSignal.objects(name="plan_changed", facts__direction="downgrade", facts__to="free").count() == 1


def test_it_lifts_a_suspension_and_leaves_it_known(client, admin, billed, runtime):
    it = billed("pro")
    Subscription.objects(organization=it.org_id).update_one(
        set__status="past_due", set__suspended_at=runtime.clock(), set__plan="free"
    )
    assert bump(client, admin, it.org_id, "pro").json["plan"] == "pro"
    assert it.row.suspended_at is not None
    assert bump(client, admin, it.org_id, None).json["plan"] == "free"


def test_it_works_for_who_was_never_billed(client, admin, organization):
    org_id = organization()
    answer = bump(client, admin, org_id, "starter")
    assert (answer.status_code, answer.json["previous"], answer.json["plan"]) == (200, None, "starter")
    assert (row_of(org_id).status, row_of(org_id).stripe_subscription_id, plan_of(org_id)) == (None, None, "starter")
    bump(client, admin, org_id, None)
    assert plan_of(org_id) == "free"


def test_it_ends_by_itself(client, admin, billed, later, runtime):
    it = billed("pro")
    bump(client, admin, it.org_id, "business", until=iso(later(30)))
    assert sweep()["overrides_lifted"] == 0
    Subscription.objects(organization=it.org_id).update_one(set__override__until=runtime.clock() - timedelta(seconds=1))
    assert sweep()["overrides_lifted"] == 1
    assert (it.row.override, it.plan) == (None, "pro")


def test_a_new_one_is_not_lifted_with_the_old_one(app, client, admin, billed, later, runtime):
    """Many at once: whatever order the sweep and the admin come in, the override of the future stands."""
    its = [billed("pro") for _ in range(4)]
    for it in its:
        bump(client, admin, it.org_id, "starter", until=iso(later(30)))
        Subscription.objects(organization=it.org_id).update_one(
            set__override__until=runtime.clock() - timedelta(seconds=1)
        )

    def lift():
        with app.app_context():
            sweep()

    threads = [threading.Thread(target=lift) for _ in range(2)]
    for each in threads:
        each.start()
    answers = [bump(client, admin, it.org_id, "business", until=iso(later(60))).status_code for it in its]
    for each in threads:
        each.join()
    assert answers == [200] * 4
    assert [(it.row.plan, it.plan) for it in its] == [("business", "business")] * 4


def test_it_and_a_change_at_stripe_do_not_lose_each_other(app, client, admin, billed, sandbox, runtime):
    its = [billed("pro") for _ in range(4)]
    for it in its:
        sandbox.patch(it.subscription, {"status": "canceled"})

    def follow():
        with app.app_context():
            for it in its:
                sync(it, runtime)

    thread = threading.Thread(target=follow)
    thread.start()
    for it in its:
        assert bump(client, admin, it.org_id, "business").status_code == 200
    thread.join()
    assert [(it.row.status, it.row.plan, it.plan) for it in its] == [("canceled", "business", "business")] * 4


def test_a_dry_run_writes_nothing(client, admin, billed, organization, frozen):
    it, never = billed("pro"), organization()
    with frozen:
        for org_id in (it.org_id, never):
            answer = bump(client, admin, org_id, "business", "?dryRun=true")
            assert (answer.status_code, answer.json["dryRun"], answer.json["plan"]) == (200, True, "business")
    assert AdminAction.objects(action="bump").count() == 0


def test_the_view_says_who_and_until_when(client, admin, billed, later):
    it, until = billed("pro"), later(30)
    bump(client, admin, it.org_id, "business", until=iso(until), note="goodwill")
    shown = client.get(f"/api/admin/billing/customer/{it.org_id}", headers=admin).json
    assert shown["verdict"] == "overridden"
    assert f"business, set by ada@example.com until {until:%Y-%m-%d %H:%M} UTC (goodwill)" in shown["explanation"]
    assert {"name": "bump", "permission": "plan:override", "allowed": True, "reason": None} in shown["actions"]


def test_the_view_says_when_less_is_granted_than_is_billed(client, admin, billed):
    it = billed("pro")
    bump(client, admin, it.org_id, "free", note="abuse")
    shown = client.get(f"/api/admin/billing/customer/{it.org_id}", headers=admin).json
    assert shown["verdict"] == "overridden"
    assert shown["explanation"].endswith("until it is lifted (abuse). That is less than what Stripe bills: pro.")


def test_another_verdict_does_not_hide_it(client, admin, billed, subscribe, stripe):
    it = billed("pro")
    subscribe(it.customer, "starter")
    answer = bump(client, admin, it.org_id, "business")
    assert (answer.status_code, it.plan) == (200, "business")
    shown = client.get(f"/api/admin/billing/customer/{it.org_id}", headers=admin).json
    assert shown["verdict"] == "several_live_subscriptions"
    assert "The plan is overridden: business, set by ada@example.com until it is lifted." in shown["explanation"]
    # What is found of several stays, and the next look at Stripe keeps the override.
    client.post(f"/api/admin/billing/sync/{it.org_id}", headers=admin)
    assert (it.row.plan, it.plan, len(it.row.candidates)) == ("business", "business", 1)
    assert bump(client, admin, it.org_id, None).json["plan"] == it.row.stripe_plan
    assert len(it.row.candidates) == 1


def test_a_time_finer_than_what_is_stored_is_the_same_time(client, admin, token, billed, later):
    it = billed("pro")
    until = iso(later(30)).replace(".000Z", ".123456Z")
    first = bump(client, admin, it.org_id, "business", until=until)
    again = bump(client, token("admin", actor="bob@example.com"), it.org_id, "business", until=until)
    assert (first.json["updated"]["override"]["until"], again.json["changed"]) == (until.replace("456Z", "Z"), [])
    assert it.row.override.actor == "ada@example.com"


def test_the_same_key_gives_the_same_answer(client, admin, billed, later):
    it, until = billed("pro"), iso(later(30))
    headers = admin | {"Idempotency-Key": "bump"}
    first, again = (bump(client, headers, it.org_id, "business", until=until) for _ in range(2))
    assert (first.json, again.headers["Idempotency-Replayed"]) == (again.json, "true")
    assert bump(client, headers, it.org_id, "starter", until=until).json["code"] == "idempotency_mismatch"
    assert it.plan == "business"


def test_dunning_does_not_undo_it(client, admin, billed, sandbox, runtime):
    it = billed("pro")
    bump(client, admin, it.org_id, "business")
    long_ago = runtime.clock() - timedelta(days=20)
    sandbox.patch(it.subscription, {"status": "past_due"})
    Subscription.objects(organization=it.org_id).update_one(
        set__status="past_due", set__past_due_since=long_ago, set__as_of=None
    )
    done = subscriptions.suspend_overdue(
        subscriptions.Dunned(since=EPOCH),
        overdue_since=runtime.clock() - timedelta(days=14),
        stripe=runtime.stripe,
        plans=runtime.plans,
        now=runtime.clock(),
        stop=lambda: False,
    )
    assert done.counts["failed"] == 0
    assert (it.row.status, it.row.plan, it.plan) == ("past_due", "business", "business")
    assert bump(client, admin, it.org_id, None).json["plan"] == ("free" if it.row.suspended_at else "pro")


def test_an_unknown_organization_is_404(client, admin):
    answer = bump(client, admin, ObjectId(), "pro")
    assert (answer.status_code, answer.json["code"]) == (404, "organization_not_found")


def test_it_needs_a_token(client, billed, frozen):
    it = billed("pro")
    with frozen:
        assert bump(client, {}, it.org_id, "business").status_code == 401


def test_it_needs_the_permission(client, token, billed, frozen):
    it = billed("pro")
    with frozen:
        answer = bump(client, token("support"), it.org_id, "business")
    assert (answer.status_code, answer.json["code"]) == (403, "forbidden")
    assert bump(client, token("billing-ops"), it.org_id, "business").status_code == 200


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"planId": "gold"}, "planId"),
        ({"planId": 1}, "planId"),
        ({"planId": {"$ne": None}}, "planId"),
        ({"orgId": "1"}, "orgId"),
        ({"until": "2020-01-01T00:00:00Z"}, "until"),
        ({"until": "soon"}, "until"),
        ({"until": "2099-01-01T00:00:00Z"}, "until"),
        ({"until": "9999-12-31T23:59:59Z"}, "until"),
        ({"planId": None, "until": "2030-01-01T00:00:00Z"}, "until"),
        ({"forever": True}, "forever"),
    ],
)
def test_it_rejects_bad_input(client, admin, billed, frozen, change, field):
    it = billed("pro")
    body = {"orgId": str(it.org_id), "planId": "business"} | change
    with frozen:
        answer = client.patch(URL, headers=admin, json=body)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request")
    assert list(answer.json["errors"]) == [field]


def test_it_names_the_plans_there_are(client, admin, billed):
    answer = bump(client, admin, billed("pro").org_id, "gold")
    assert "free, starter, pro, business" in str(answer.json["errors"]["planId"])
    assert client.patch(URL, headers=admin, json={"orgId": "5" * 24}).json["errors"] == {
        "planId": ["Missing data for required field."]
    }
