"""What an admin waits for: the customer view and sync, each beside the Stripe requests that it needs."""

import os
import time
from collections.abc import Callable
from typing import Any

import mongoengine

from billing_service import create_app, observability, tokens
from billing_service.documents import Subscription
from billing_service.settings import Settings

from .installation import Installation
from .scale import Scale, in_turn

PAIRS = 3


def run(installation: Installation, scale: Scale) -> None:
    """Print both comparisons."""
    observability.configure("ERROR")
    app = create_app(Settings.from_env(os.environ | installation.environment))
    runtime, client = app.extensions["billing"], app.test_client()
    org_id = installation.population.org_id(0)
    print("Admin: in one process, medians of pairs")
    try:
        with app.app_context():
            headers = {"Authorization": f"Bearer {tokens.issue(runtime.settings, 'bench', ['admin'], 60)}"}

            def view() -> None:
                assert client.get(f"/api/admin/billing/customer/{org_id}", headers=headers).status_code == 200

            def sync() -> None:
                assert client.post(f"/api/admin/billing/sync/{org_id}", headers=headers).status_code == 200

            _beside("GET /customer", view, "its Stripe requests alone", lambda: _view_alone(runtime, org_id), scale)
            _beside("POST /sync", sync, "its Stripe requests alone", lambda: _sync_alone(runtime, org_id), scale)
    finally:
        mongoengine.disconnect_all()


def _beside(name: str, ours: Callable[[], None], bare_name: str, bare: Callable[[], None], scale: Scale) -> None:
    mine, other, ratio = in_turn(
        PAIRS, lambda: _rate(ours, scale.admin_seconds), lambda: _rate(bare, scale.admin_seconds)
    )
    print(f"  {name:<34}{mine:7.0f}/s   {bare_name} {other:.0f}/s   ratio {ratio:.2f}")


def _rate(work: Callable[[], None], seconds: float) -> float:
    count, begun = 0, time.perf_counter()
    while (now := time.perf_counter()) - begun < seconds or not count:
        work()
        count += 1
    return count / (now - begun)


def _row(org_id: Any) -> Subscription:
    return Subscription.objects(organization=org_id).first()


def _view_alone(runtime: Any, org_id: Any) -> None:
    row = _row(org_id)
    runtime.stripe.customer(row.stripe_customer_id)
    runtime.stripe.subscriptions_of(row.stripe_customer_id)
    runtime.stripe.charges_of(row.stripe_customer_id)


def _sync_alone(runtime: Any, org_id: Any) -> None:
    row = _row(org_id)
    runtime.stripe.subscriptions_of(row.stripe_customer_id)
    runtime.stripe.subscription(row.stripe_subscription_id)
