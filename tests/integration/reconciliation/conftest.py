"""Runs to their end, with a second look that comes at once, and organizations that are in step with Stripe."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import requests
from bson import ObjectId
from mongoengine.connection import get_db

from billing_service import reconciliation
from billing_service.documents import Finding, Organization, ReconciliationRun, Subscription, WebhookEvent
from billing_service.jobs import wakeups
from billing_service.stripe_gateway import shapes


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


OWN = {"findings", "outbox", "reconciliation_runs", "reconciliation_candidates"}


@pytest.fixture
def everything(sandbox, runtime):
    """All that is stored but what a run writes down, and all that Stripe has of money, to be compared later."""

    # Another key of the account, of which the faults of ours are not.
    key = sandbox.add_key()

    def picture():
        database = get_db()
        names = sorted(set(database.list_collection_names()) - OWN)
        stored = {name: list(database[name].find().sort("_id", 1)) for name in names}
        kinds = ("customers", "subscriptions?status=all", "invoices", "charges", "events", "prices")
        return {name: found for name, found in stored.items() if found} | {
            kind: _listed(runtime.settings, kind, key) for kind in kinds
        }

    return picture


def _listed(settings, kind, key=None):
    url = f"{settings.stripe_api_base}/v1/{kind}{'&' if '?' in kind else '?'}limit=100"
    found, more = [], True
    while more:
        after = f"&starting_after={found[-1]['id']}" if found else ""
        headers = {"Authorization": f"Bearer {key or settings.stripe_secret_key}"}
        answer = requests.get(url + after, headers=headers, timeout=10).json()
        found += answer["data"]
        more = answer["has_more"]
    return found


@pytest.fixture
def seeded(app, sandbox, runtime):
    """Makes many subscriptions at Stripe, each with its row here that says the same."""

    def make(count, **rule):
        rule = {"prices": ["price_pro_monthly"]} | rule
        sandbox.seed(count, **rule)
        plan = runtime.plans.of_price(rule["prices"][0]).id
        after, more = None, True
        while more:
            page = runtime.stripe.subscriptions_page(created={}, starting_after=after).value
            found = [shapes.subscription(each) for each in page["data"]]
            Subscription._get_collection().insert_many([row_of(each, plan) for each in found])
            Organization._get_collection().insert_many(
                [{"_id": ObjectId(each.metadata["organizationId"]), "plan": plan} for each in found]
            )
            after, more = found[-1].id, page["has_more"]
        sandbox.clear_requests()

    return make


def row_of(live, plan):
    """The row that a sync would have written."""
    return {
        "organization": ObjectId(live.metadata["organizationId"]),
        "stripe_customer_id": live.customer,
        "stripe_subscription_id": live.id,
        "stripe_created_at": live.created,
        "status": live.status,
        "stripe_plan": plan,
        "plan": plan,
        "price_id": live.items[0].price_id,
        "quantity": live.items[0].quantity,
        "current_period_start": live.current_period_start,
        "current_period_end": live.current_period_end,
        "cancel_at_period_end": live.cancel_at_period_end,
        "cancel_at": live.cancel_at,
        "version": 1,
    }


@pytest.fixture
def deliver(app, events_at_stripe):
    """Stores Stripe's events in the ledger, all or `of` one subscription, as settled unless another state is given."""

    def put(*types, of=None, **fields):
        for event in events_at_stripe(*types):
            if of not in (None, event["data"]["object"]["id"]):
                continue
            if WebhookEvent.objects(event_id=event["id"]).first():
                continue
            at = datetime.fromtimestamp(event["created"], UTC)
            subject = event["data"]["object"]
            own = subject["id"] if subject["object"] == "subscription" else None
            WebhookEvent(
                **{
                    "event_id": event["id"],
                    "type": event["type"],
                    "created": at,
                    "received_at": at,
                    "payload": json.dumps(event),
                    "source": "delivery",
                    "state": "succeeded",
                    "outcome": "applied",
                    "stripe_subscription_id": own,
                }
                | fields
            ).save()

    return put


@pytest.fixture
def events_at_stripe(runtime, sandbox):
    """All events that Stripe has, as JSON, oldest first."""

    def read(*types):
        found = _listed(runtime.settings, "events")[::-1]
        return [each for each in found if not types or each["type"] in types]

    return read


@pytest.fixture
def start(app, runtime):
    """Starts a run."""
    return lambda organization=None: reconciliation.start("cli", runtime.clock(), organization=organization)


@pytest.fixture
def go_on(app, desk):
    """Goes on with the active run, whenever it would have been due."""

    def turn(stop=lambda: False, **changes):
        ReconciliationRun.objects(active=True).update(unset__next_at=True)
        return reconciliation.go_on(desk(**changes), stop)

    return turn


@pytest.fixture
def monotonic_pauses(runtime):
    """A clock that is an hour further each time, so that no pause is waited for."""
    hours = iter(range(1_000_000))
    return lambda: runtime.clock() + timedelta(hours=next(hours))


@pytest.fixture
def profiled(app):
    """What MongoDB did in the block, but for the reads of one-row collections."""
    database = get_db()

    class Profiled:
        def __enter__(self):
            database.command("profile", 2)
            return self

        def __exit__(self, *error):
            database.command("profile", 0)
            self.seen = list(database.system.profile.find())
            database.system.profile.drop()

        def of(self, collection):
            ns = f"{database.name}.{collection}"
            return [each for each in self.seen if each.get("ns") == ns and "planSummary" in each]

    return Profiled()
