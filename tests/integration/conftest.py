"""Customers at Stripe and rows in the database, as the admin toolkit meets them."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId


@dataclass(frozen=True)
class Billed:
    """An organization with a subscription at Stripe; `row` reads what is stored now."""

    org_id: ObjectId
    customer: str
    subscription: str

    @property
    def row(self) -> Any:
        from billing_service.documents import Subscription

        return Subscription.objects(organization=self.org_id).first()

    @property
    def plan(self) -> str:
        from billing_service.documents import Organization

        return Organization.objects(id=self.org_id).first().plan


@pytest.fixture
def price(stripe: Any) -> Any:
    """Makes a monthly price at Stripe that means the plan."""
    made: dict[str | None, str] = {}

    def make(plan: str | None = "pro") -> str:
        if plan not in made:
            product = stripe.products.create({"name": f"Plan {plan}"})
            made[plan] = stripe.prices.create(
                {
                    "product": product.id,
                    "currency": "usd",
                    "unit_amount": 4900,
                    "recurring": {"interval": "month"},
                    "metadata": {"planId": plan} if plan else {},
                }
            ).id
        return made[plan]

    return make


@pytest.fixture
def subscribe(stripe: Any, price: Any) -> Any:
    """Makes a subscription at Stripe; returns its id."""

    def make(customer: str, plan: str | None = "pro", **params: Any) -> str:
        return stripe.subscriptions.create({"customer": customer, "items": [{"price": price(plan)}], **params}).id

    return make


@pytest.fixture
def billed(organization: Any, stripe: Any, subscribe: Any, runtime: Any) -> Any:
    """Makes an organization with a subscription at Stripe; its row was synced or, stored=False, only names it."""
    from billing_service import subscriptions
    from billing_service.documents import Subscription

    def make(plan: str | None = "pro", *, stored: bool = True, **params: Any) -> Billed:
        org_id = organization()
        customer = stripe.customers.create(
            {"email": f"{org_id}@example.com", "metadata": {"organizationId": str(org_id)}}
        ).id
        subscription = subscribe(customer, plan, **params)
        Subscription(
            organization=org_id,
            stripe_customer_id=customer,
            stripe_subscription_id=subscription,
            plan="free",
            version=1,
        ).save()
        if stored:
            subscriptions.sync(org_id, stripe=runtime.stripe, plans=runtime.plans, now=datetime.now(UTC))
        return Billed(org_id, customer, subscription)

    return make


@pytest.fixture
def frozen(app: Any) -> Any:
    """Remembers all that is stored; calling it tells whether anything but audit and operations was written."""
    from mongoengine.connection import get_db

    ignored = {"admin_actions", "admin_operations"}

    def picture() -> dict[str, list[Any]]:
        database = get_db()
        names = set(database.list_collection_names()) - ignored
        return {name: sorted(map(str, database[name].find())) for name in names if database[name].find_one()}

    class Frozen:
        def __enter__(self) -> None:
            self.before = picture()

        def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
            if kind is None:
                assert picture() == self.before

    return Frozen()


@pytest.fixture
def command_line(app: Any, environment: dict[str, str]) -> Any:
    """Runs a command as an operator does; returns its exit code, output and error output."""

    def run(*arguments: str, **changes: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "billing_service.cli", *arguments],
            env=os.environ | environment | changes,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.fixture
def mortal(app: Any, environment: dict[str, str]) -> Any:
    """Carries out an order (a request, `job`, `command`) in a process that kills itself at its n-th write, before or
    after it; what became of it, None: it is dead.
    """
    from mongoengine.connection import get_connection

    child = subprocess.Popen(
        [sys.executable, str(Path(__file__).parent / "admin" / "mortal.py")],
        env=os.environ | environment | {"METER_MODE": "true", "RECONCILE_CONFIRM_SECONDS": "0"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )

    def carry_out(at: int | None, after: bool, **order: Any) -> dict[str, Any] | None:
        child.stdin.write(json.dumps(order | {"at": at, "after": after}) + "\n")
        child.stdin.flush()
        told = json.loads(child.stdout.readline())
        if "killed" not in told:
            return told
        assert told["killed"] == signal.SIGKILL
        # The transaction that it had begun ends now, not when the server misses its session.
        get_connection().admin.command("killAllSessions", [])
        return None

    yield carry_out
    child.stdin.close()
    child.wait(20)
    child.stdout.close()


@pytest.fixture
def mortal_job(mortal: Any) -> Any:
    """Runs a job (`module:function`) in a process that kills itself at its n-th write; says whether it lived."""
    return lambda job, at, after: mortal(at, after, job=job) is not None
