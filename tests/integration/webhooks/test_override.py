"""A plan set by hand and webhooks of the same organization at the same time: neither undoes the other."""

import threading

import pytest

from billing_service.documents import OutboxSignal, WebhookEvent

BUMP = "/api/admin/billing/plans/bump"


@pytest.fixture
def at_once(app):
    """Runs works in threads of their own while the caller's block runs."""

    def run(*works):
        gate = threading.Barrier(len(works))

        def begin(work):
            with app.app_context():
                gate.wait()
                work()

        threads = [threading.Thread(target=begin, args=[each]) for each in works]
        for each in threads:
            each.start()
        for each in threads:
            each.join()

    return run


def test_webhooks_and_bumps_do_not_lose_each_other(app, admin, billed, stripe, price, arrive, run, at_once):
    it = billed("pro")
    item = stripe.subscriptions.retrieve(it.subscription)["items"].data[0].id
    for plan in ("starter", "pro", "business", "starter"):
        stripe.subscriptions.update(it.subscription, {"items": [{"id": item, "price": price(plan)}]})
    arrive()
    answers = []

    def bump():
        for plan in ("business", "free", "business"):
            body = {"orgId": str(it.org_id), "planId": plan}
            answers.append(app.test_client().patch(BUMP, headers=admin, json=body).status_code)

    at_once(bump, run, run)
    run(later=True)
    assert answers == [200] * 3
    assert set(WebhookEvent.objects.scalar("state")) == {"succeeded"}
    assert (it.row.override.plan, it.row.stripe_plan) == ("business", "starter")
    assert (it.row.plan, it.plan) == ("business", "business")
    versions = [each.version for each in OutboxSignal.objects(organization=it.org_id, name="plan_changed")]
    assert len(versions) == len(set(versions))


def test_the_end_of_the_subscription_leaves_it(app, admin, billed, stripe, arrive, run):
    it = billed("pro")
    app.test_client().patch(BUMP, headers=admin, json={"orgId": str(it.org_id), "planId": "business"})
    stripe.subscriptions.cancel(it.subscription)
    arrive()
    run(later=True)
    assert (it.row.status, it.row.plan, it.plan) == ("canceled", "business", "business")
    lifted = app.test_client().patch(BUMP, headers=admin, json={"orgId": str(it.org_id), "planId": None})
    assert (lifted.json["plan"], it.plan) == ("free", "free")
