"""Indexes exist as declared and are used: the plan's index, and documents examined per document returned."""

import random
from datetime import UTC, datetime, timedelta

import pytest
from bson import ObjectId

from billing_service.documents import DOCUMENTS, EPOCH, AdminAction, Subscription, WebhookEvent

NOW = datetime(2026, 6, 1, tzinfo=UTC)
ROWS = 5_000


@pytest.fixture(scope="module")
def rows():
    """Inserts 5,000 subscription rows of all statuses, dates spread over 60 days."""
    dice = random.Random(7)
    statuses = ["active", "past_due", "canceled", "trialing", "unpaid", None]

    def make(number):
        status = statuses[number % len(statuses)]
        at = NOW - timedelta(minutes=dice.randrange(60 * 24 * 60))
        return {
            "organization": ObjectId(),
            "stripe_customer_id": f"cus_{number}",
            "stripe_subscription_id": f"sub_{number}",
            "stripe_created_at": at,
            "status": status,
            "last_reset_at": at,
            "past_due_since": at if status == "past_due" else None,
            "suspended_at": NOW if number % 60 == 1 else None,
            "verify_at": at if number % 100 == 0 else None,
            "plan": "free",
            "version": 1,
        }

    return [make(number) for number in range(ROWS)]


@pytest.fixture
def filled(app, rows):
    Subscription._get_collection().insert_many([dict(row) for row in rows])


def explained(queryset):
    """(index names of the winning plan, documents examined, documents returned)"""
    collection = queryset._collection
    command = {"find": collection.name, "filter": queryset._query}
    if queryset._ordering:
        command["sort"] = dict(queryset._ordering)
    if queryset._limit:
        command["limit"] = queryset._limit
    answer = collection.database.command("explain", command, verbosity="executionStats")
    stats = answer["executionStats"]
    names = []

    def walk(stage):
        names.extend([stage["indexName"]] if "indexName" in stage else [])
        for below in [stage.get("inputStage"), *stage.get("inputStages", [])]:
            if below:
                walk(below)

    winner = answer["queryPlanner"]["winningPlan"]
    walk(winner.get("queryPlan", winner))
    return names, stats["totalDocsExamined"], stats["nReturned"]


@pytest.mark.parametrize(
    ("name", "wanted", "order"),
    [
        ("weekly_reset_due", {"status": "active", "last_reset_at__lt": NOW - timedelta(days=7)}, "last_reset_at"),
        (
            "dunning",
            {"status": "past_due", "past_due_since__lte": NOW - timedelta(days=14), "suspended_at": None},
            "past_due_since",
        ),
        ("verify_at", {"verify_at__gt": EPOCH, "verify_at__lte": NOW}, None),
        ("stripe_subscription_id", {"stripe_subscription_id": "sub_77"}, None),
        ("stripe_customer_id", {"stripe_customer_id": "cus_77"}, None),
        ("stripe_created_at", {"stripe_created_at__gte": NOW - timedelta(days=2), "stripe_created_at__lt": NOW}, None),
    ],
)
def test_a_scan_reads_only_what_it_returns(filled, name, wanted, order):
    rows = Subscription.objects(**wanted)
    names, examined, returned = explained(rows.order_by(order) if order else rows)
    assert names == [name]
    assert returned > 0
    assert examined <= 1.1 * returned


def test_the_organizations_row_is_one_read(filled, rows):
    names, examined, returned = explained(Subscription.objects(organization=rows[42]["organization"]))
    assert (names, examined, returned) == (["organization"], 1, 1)


def test_the_lists_of_a_customer_are_read_by_index(app):
    org_id = ObjectId()
    for number in range(200):
        mine = number % 4 == 0
        AdminAction(
            operation=ObjectId(),
            phase="intent",
            at=NOW + timedelta(seconds=number),
            actor="a",
            action="sync",
            target="t",
            organization=org_id if mine else ObjectId(),
        ).save()
        WebhookEvent(
            event_id=f"evt_{number}",
            type="x",
            created=NOW + timedelta(seconds=number),
            received_at=NOW,
            source="delivery",
            state="received",
            organization=org_id if mine else ObjectId(),
        ).save()
    audit = explained(AdminAction.objects(organization=org_id).order_by("-at", "-id").limit(10))
    events = explained(WebhookEvent.objects(organization=org_id).order_by("-received_at", "-id").limit(10))
    assert audit == (["organization_newest"], 10, 10)
    assert events == (["organization_newest"], 10, 10)


def test_every_declared_index_exists_under_its_name(app):
    for document in DOCUMENTS:
        declared = {index["name"] for index in document._meta.get("indexes", [])}
        there = set(document._get_collection().index_information()) - {"_id_"}
        assert there == declared, document.__name__


def test_making_them_twice_is_once(app):
    from billing_service.documents import ensure_indexes

    assert ensure_indexes(DOCUMENTS) == ensure_indexes(DOCUMENTS)


@pytest.mark.parametrize("name", ["stripe_subscription_id", "stripe_customer_id"])
def test_a_stripe_id_belongs_to_one_row_and_none_to_many(app, name):
    from mongoengine.errors import NotUniqueError

    for _ in range(2):
        Subscription(organization=ObjectId(), plan="free", **{name: None}).save()
        Subscription(organization=ObjectId(), plan="free").save()
    Subscription(organization=ObjectId(), plan="free", **{name: "same"}).save()
    with pytest.raises(NotUniqueError):
        Subscription(organization=ObjectId(), plan="free", **{name: "same"}).save()


def test_no_query_of_the_service_scans_a_collection(app, client, admin, billed, sandbox):
    """All that the endpoints and a webhook's handling ask of MongoDB, as its profiler saw it."""
    from mongoengine.connection import get_db

    from billing_service import subscriptions
    from billing_service.operations import settle_lapsed

    it = billed("pro", stored=False)
    runtime = app.extensions["billing"]
    database = get_db()
    database.command("profile", 2)
    try:
        for action in ("sync", "cancel"):
            headers = admin | {"Idempotency-Key": action}
            for _ in range(2):
                assert client.post(f"/api/admin/billing/{action}/{it.org_id}", headers=headers).status_code == 200
        client.get(f"/api/admin/billing/customer/{it.org_id}", headers=admin)
        client.get(f"/api/admin/billing/audit?orgId={it.org_id}", headers=admin)
        subscriptions.verify_due(stripe=runtime.stripe, plans=runtime.plans, now=runtime.clock())
        subscriptions.lift_expired_overrides(plans=runtime.plans, now=runtime.clock())
        subscriptions.follow_up_cancels(stripe=runtime.stripe, plans=runtime.plans, clock=runtime.clock)
        settle_lapsed(clock=runtime.clock)
    finally:
        database.command("profile", 0)
        seen = [each for each in database.system.profile.find() if "planSummary" in each]
        database.system.profile.drop()
    assert len(seen) > 20
    assert [(each["ns"], each["command"]) for each in seen if "COLLSCAN" in each["planSummary"]] == []
