"""Runs to their end, with a second look that comes at once, and organizations that are in step with Stripe."""

from dataclasses import replace
from datetime import timedelta

import pytest

from billing_service import reconciliation
from billing_service.documents import Finding, ReconciliationRun
from billing_service.jobs import wakeups


@pytest.fixture(autouse=True)
def redis_may_be_asked():
    """What an earlier test taught this process about Redis is over."""
    wakeups.silence.end()


@pytest.fixture
def confirming(app):
    """Sets how long a difference must last."""
    billing = app.extensions["billing"]

    def seconds(number):
        app.extensions["billing"] = replace(
            billing, settings=replace(billing.settings, reconcile_confirm_seconds=number)
        )

    yield seconds
    app.extensions["billing"] = billing


@pytest.fixture
def desk(runtime):
    """What comparing needs, as a job has it."""

    def make(**changes):
        fields = {
            "stripe": runtime.stripe,
            "plans": runtime.plans,
            "clock": runtime.clock,
            "confirm": timedelta(0),
        }
        return reconciliation.Desk(**fields | changes)

    return make


@pytest.fixture
def reconcile(app, runtime, desk):
    """Carries out a run to its end; returns it."""

    def run(organization=None, **changes):
        started = reconciliation.start("cli", runtime.clock(), organization=organization)
        for _ in range(200):
            turn = reconciliation.go_on(desk(**changes), lambda: False)
            assert turn.held
            if turn.over:
                return ReconciliationRun.objects(id=started.pk).first()
            ReconciliationRun.objects(active=True).update(unset__next_at=True)
        raise AssertionError(f"it does not end: {turn.run.describe()}")

    return run


@pytest.fixture
def findings():
    """The findings that are open or acknowledged, as (kind, organization) or whatever is asked."""

    def read(*names):
        names = names or ("kind", "organization")
        return sorted(
            tuple(getattr(each, name) for name in names) for each in Finding.objects(state__in=["open", "acknowledged"])
        )

    return read
