"""Imports to their end, in this process, and subscriptions at Stripe of customers who name whom they like."""

import pytest

from billing_service import importing
from billing_service.documents import ImportItem, ImportRun, Subscription, database_now


@pytest.fixture
def desk(runtime):
    """What importing needs, as the command has it."""
    return importing.Desk(runtime.stripe, runtime.plans, runtime.clock)


@pytest.fixture
def finish(desk):
    """Goes on with the active import to its end, whoever held it; returns it."""

    def go_on(run):
        for _ in range(50):
            ImportRun.objects(active=True).update(set__lease_until=database_now(), unset__next_at=True)
            assert importing.go_on(desk, lambda: False)
            run.reload()
            if not run.active:
                return run
        raise AssertionError(f"it does not end: {run.describe()}")

    return go_on


@pytest.fixture
def imported(runtime, finish):
    """Carries out an import; returns it."""

    def run(**wanted):
        started, _ = importing.start(importing.Wanted(**{"apply": True} | wanted), runtime.clock())
        done = finish(started)
        assert (done.state, done.error) == ("completed", None)
        return done

    return run


@pytest.fixture
def customer(stripe):
    """Makes a customer at Stripe that names an organization, or nobody."""

    def make(names=None):
        return stripe.customers.create({"metadata": {"organizationId": str(names)} if names else {}}).id

    return make


@pytest.fixture
def row():
    """The organization's row."""
    return lambda org_id: Subscription.objects(organization=org_id).first()


@pytest.fixture
def item():
    """What the newest import makes of a subscription: (state, reason)."""

    def read(subscription):
        run = ImportRun.objects.order_by("-started_at", "-id").first()
        found = ImportItem.objects(run=run.pk, stripe_subscription_id=subscription).first()
        return (found.state, found.reason) if found else None

    return read
