"""`make bench`: starts real servers, runs each measurement beside its baseline, prints rates and ratios."""

import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from billing_service import create_app, observability, tokens
from billing_service.documents import DOCUMENTS, Organization, Subscription, WebhookEvent, ensure_indexes
from billing_service.sandbox import servers
from billing_service.sandbox.stripe.control import Control
from billing_service.settings import Settings
from billing_service.stripe_gateway import verify_webhook
from billing_service.webhooks import Desk, handle_due

from .signed import event, header

SECRET = "whsec_of_the_benchmarks_0123456789"
SECONDS = 4.0


def rate(work: Callable[[int], object], seconds: float = SECONDS) -> float:
    """How often a second `work` runs, alone, for some seconds."""
    count, started = 0, time.perf_counter()
    while (now := time.perf_counter()) - started < seconds:
        work(count)
        count += 1
    return count / (now - started)


def beside(name: str, ours: Callable[[int], object], bare: Callable[[int], object], what: str) -> None:
    """Measure both in turn, twice, and print the medians with their ratio."""
    pairs = [(rate(ours, SECONDS / 2), rate(bare, SECONDS / 2)) for _ in range(3)]
    mine, other = (statistics.median(each[side] for each in pairs) for side in (0, 1))
    ratio = statistics.median(a / b for a, b in pairs)
    print(f"{name:<34} {mine:8.0f}/s   {what:<44} {other:8.0f}/s   ratio {ratio:.2f}")


def measure(environment: dict[str, str], control: Control) -> None:
    observability.configure("ERROR")
    app = create_app(Settings.from_env(environment))
    runtime = app.extensions["billing"]
    ensure_indexes(DOCUMENTS)
    with app.app_context():
        client = app.test_client()
        headers = {"Authorization": f"Bearer {tokens.issue(runtime.settings, 'bench', ['admin'], 60)}"}
        webhooks(client)
        org_id = billed(control, runtime)
        path = f"/api/admin/billing/customer/{org_id}"
        beside(
            "GET /customer",
            lambda _: client.get(path, headers=headers),
            lambda _: three_requests(runtime, org_id),
            "its three Stripe requests alone",
        )
        path = f"/api/admin/billing/sync/{org_id}"
        runtime.redis.client().flushall()
        beside(
            "POST /sync",
            lambda _: client.post(path, headers=headers),
            lambda _: two_requests(runtime, org_id),
            "its two Stripe requests alone",
        )
        dispatching(runtime)


def webhooks(client) -> None:
    """Accepting a webhook in the process, beside verifying and inserting alone."""
    collection = WebhookEvent._get_collection()

    def accept(number: int) -> None:
        body = event(f"evt_a{time.time_ns()}{number}")
        answer = client.post(
            "/api/billing/webhook",
            data=body,
            headers={"Stripe-Signature": header(body, SECRET)},
            content_type="application/json",
        )
        assert answer.status_code == 200

    def bare(number: int) -> None:
        body = event(f"evt_b{time.time_ns()}{number}")
        verified = verify_webhook(body, header(body, SECRET), [SECRET], now=time.time()).event
        collection.insert_one({"event_id": verified["id"], "payload": body.decode(), "state": "succeeded"})

    beside("POST /api/billing/webhook", accept, bare, "verify and insert, nothing else")


def billed(control: Control, runtime):
    seeded = runtime.stripe.subscription(control.seed(count=1, prices=["price_pro_monthly"])["first"]).value
    org_id = seeded.metadata["organizationId"]
    Organization(id=org_id, name="Bench", slug="bench", plan="free").save()
    Subscription(
        organization=org_id, stripe_customer_id=seeded.customer, stripe_subscription_id=seeded.id, plan="free"
    ).save()
    return org_id


def three_requests(runtime, org_id) -> None:
    row = Subscription.objects(organization=org_id).first()
    runtime.stripe.customer(row.stripe_customer_id)
    runtime.stripe.subscriptions_of(row.stripe_customer_id)
    runtime.stripe.charges_of(row.stripe_customer_id)


def two_requests(runtime, org_id) -> None:
    row = Subscription.objects(organization=org_id).first()
    runtime.stripe.subscriptions_of(row.stripe_customer_id)
    runtime.stripe.subscription(row.stripe_subscription_id)


def dispatching(runtime) -> None:
    """Events of one subscription, handled by one process."""
    waiting = WebhookEvent.objects(state="received").count()
    desk = Desk(runtime.stripe, runtime.plans, (10,), runtime.clock)
    started = time.perf_counter()
    ends = handle_due(desk, stop=lambda: time.perf_counter() - started > SECONDS)
    seconds = time.perf_counter() - started
    done = sum(ends.values())
    print(f"{'events handled by one process':<34} {done / seconds:8.0f}/s   ({done} of {waiting} that waited)")


def main() -> None:
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with servers.mongod(folder) as mongod, servers.redis(folder) as redis, servers.stripe_sandbox(folder) as stripe:
            control = Control(stripe.url)
            control.hold()
            measure(
                {
                    "MONGODB_URI": mongod.url,
                    "REDIS_URL": redis.url,
                    "STRIPE_SECRET_KEY": "sk_test_sandbox",
                    "STRIPE_API_BASE": stripe.url,
                    "STRIPE_WEBHOOK_SECRETS": SECRET,
                    "STRIPE_REQUESTS_PER_SECOND": "10000",
                    "MUTATIONS_PER_MINUTE": "1000000",
                    "JWT_SECRET_KEY": json.dumps("x" * 64),
                },
                control,
            )


if __name__ == "__main__":
    main()
