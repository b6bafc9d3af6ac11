"""The second look at a row whose last one may have lagged."""

from datetime import timedelta

import pytest

from billing_service.documents import Subscription, database_now
from billing_service.jobs.verify import verify


@pytest.fixture
def held(runtime):
    """The wake-ups that wait for their time."""

    def read():
        found = runtime.redis.client().zrange("rq:scheduler:scheduled_jobs", 0, -1, withscores=True)
        return {key.decode(): at for key, at in found}

    return read


def test_it_looks_and_wakes_itself_for_the_next(billed, stripe, held):
    now, later = billed(), billed()
    stripe.subscriptions.cancel(now.subscription)
    for it, seconds in ((now, -1), (later, 30)):
        due = database_now() + timedelta(seconds=seconds)
        Subscription.objects(organization=it.org_id).update_one(set__verify_at=due)
    assert verify() == 1
    assert (now.plan, now.row.verify_at, now.row.synced_from) == ("free", None, "verify")
    [(name, at)] = held().items()
    assert name.startswith("verify-")
    assert 28 < at - database_now().timestamp() < 32


def test_it_reports_stripe_down(billed, sandbox, held):
    it = billed()
    Subscription.objects(organization=it.org_id).update_one(set__verify_at=database_now())
    sandbox.arm("error", path="/v1/", times=None)
    assert verify() == 0
    assert it.row.verify_at is not None
    assert held() == {}


def test_twice_is_once(billed):
    it = billed()
    Subscription.objects(organization=it.org_id).update_one(set__verify_at=database_now())
    assert (verify(), verify()) == (1, 0)
