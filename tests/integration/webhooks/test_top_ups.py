"""Packs of extras that are paid for at Checkout: credited once, when they are paid, and never by guessing."""

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from bson import ObjectId

from billing_service import extras
from billing_service.documents import LedgerEntry, Organization, OutboxSignal, WebhookEvent
from billing_service.webhooks import handle_due
from billing_service.webhooks.replay import foresee

APPLIED, IGNORED = ("succeeded", "applied", None), ("succeeded", "ignored", None)
COMPLETED = "checkout.session.completed"
UNITS = 100_000


def entries():
    return [(each.kind, each.units, each.ref) for each in LedgerEntry.objects.order_by("id")]


def test_it_works(billed, pack, arrive, run, ends, row):
    it = billed()
    session = pack(it.org_id, customer=it.customer)
    ids = arrive(COMPLETED)
    run()
    assert ends(ids) == {APPLIED}
    [entry] = LedgerEntry.objects
    assert (entry.organization, entry.kind, entry.units, entry.remaining) == (it.org_id, "topup", UNITS, UNITS)
    assert (entry.ref, entry.session, entry.payment_intent) == (
        f"topup:{session.id}",
        session.id,
        session.payment_intent,
    )
    assert (entry.amount, entry.currency, entry.memo) == (4_900, "usd", "pack_100k")
    assert entry.expires_at == row(ids[0]).created + timedelta(days=365)
    assert extras.balance_of(it.org_id) == UNITS


def test_twice_is_once(organization, pack, arrive, run, deliver, events_at_stripe):
    org_id = organization()
    pack(org_id)
    arrive(COMPLETED)
    run()
    assert deliver(events_at_stripe(COMPLETED)[0]).status_code == 200
    WebhookEvent.objects.update(set__state="received")
    run()
    assert extras.balance_of(org_id) == UNITS
    assert len(LedgerEntry.objects) == 1


def test_two_sessions_are_two_packs(organization, pack, arrive, run):
    org_id = organization()
    pack(org_id), pack(org_id)
    arrive(COMPLETED)
    run()
    assert extras.balance_of(org_id) == 2 * UNITS


def test_a_delayed_payment_is_credited_when_it_came(organization, pack, sandbox, arrive, run, ends):
    org_id = organization()
    session = pack(org_id, outcome="unpaid")
    completed = arrive(COMPLETED)
    run()
    assert (ends(completed), extras.balance_of(org_id)) == ({IGNORED}, 0)
    sandbox.settle_checkout(session.id, "succeed")
    ids = arrive("checkout.session.async_payment_succeeded")
    run()
    assert (ends(ids), extras.balance_of(org_id)) == ({APPLIED}, UNITS)


def test_a_delayed_payment_that_failed_credits_nothing(organization, pack, sandbox, arrive, run, ends):
    session = pack(organization(), outcome="unpaid")
    sandbox.settle_checkout(session.id, "fail")
    ids = arrive(COMPLETED, "checkout.session.async_payment_failed")
    run()
    assert (ends(ids), entries()) == ({IGNORED}, [])


def test_a_discount_changes_what_was_paid_not_what_was_bought(organization, pack, arrive, run, ends):
    org_id = organization()
    pack(org_id, paid=2_450)
    ids = arrive(COMPLETED)
    run()
    assert ends(ids) == {APPLIED}
    [entry] = LedgerEntry.objects
    assert (entry.units, entry.amount) == (UNITS, 2_450)


def test_a_pack_for_nothing(organization, pack, arrive, run, ends):
    org_id = organization()
    pack(org_id, paid=0)
    ids = arrive(COMPLETED)
    run()
    assert (ends(ids), extras.balance_of(org_id)) == ({APPLIED}, UNITS)


@pytest.mark.parametrize(
    ("wrong", "reason", "word"),
    [
        ({"pack_id": "pack_1m"}, "pack_unknown", "pack_1m"),
        ({"pack_id": None}, "pack_unknown", "packId"),
        ({"amount": 5_900}, "pack_mismatch", "5900"),
        ({"quantity": 2}, "pack_mismatch", "9800"),
        ({"currency": "eur"}, "pack_mismatch", "eur"),
    ],
)
def test_what_was_bought_is_not_guessed(billed, pack, arrive, run, ends, row, wrong, reason, word):
    it = billed()
    session = pack(it.org_id, customer=it.customer, **wrong)
    [event_id] = arrive(COMPLETED)
    run()
    assert ends([event_id]) == {("dead", None, reason)}
    assert entries() == []
    event = row(event_id)
    assert (event.organization, event.attempts) == (it.org_id, 1)
    assert word in event.history[-1].error_message
    [told] = OutboxSignal.objects(name="extras_refused")
    assert (told.organization, told.facts["reason"], told.facts["session_id"]) == (it.org_id, reason, session.id)
    assert OutboxSignal.objects(name="webhook_dead").count() == 1


def test_each_refused_session_is_told_of(organization, pack, arrive, run):
    for _ in range(2):
        pack(organization(), pack_id="pack_1m")
    arrive(COMPLETED)
    run()
    assert OutboxSignal.objects(name="extras_refused").count() == 2


def test_a_replay_credits_it_after_the_plan_file_was_corrected(
    organization, pack, arrive, run, desk, client, admin, row
):
    org_id = organization()
    pack(org_id, pack_id="pack_1m")
    [event_id] = arrive(COMPLETED)
    run()
    known = desk.plans.packs[0]
    corrected = replace(desk, plans=replace(desk.plans, packs=(known, replace(known, id="pack_1m", units=7))))
    foretold = foresee(event_id, force=False, desk=corrected, livemode=False).facts()
    assert (foretold["outcome"], foretold["changes"]) == (
        "applied",
        [{"field": "extras", "previous": 0, "updated": 7}],
    )
    assert (
        client.post("/api/admin/billing/webhook/replay", headers=admin, json={"eventId": event_id}).status_code == 202
    )
    handle_due(corrected, stop=lambda: False)
    assert (row(event_id).state, extras.balance_of(org_id)) == ("succeeded", 7)


def test_what_an_older_version_parked_is_replayed(organization, pack, arrive, client, admin, run, row):
    """It had no ledger of extras: `extras_unsupported` is a reason that nothing is given any more."""
    org_id = organization()
    pack(org_id)
    [event_id] = arrive(COMPLETED)
    now = datetime.now(UTC)
    WebhookEvent.objects(event_id=event_id).update_one(
        set__state="dead", set__reason="extras_unsupported", set__dead_at=now, set__attempts=1
    )
    asked = {"eventId": event_id}
    dry = client.post("/api/admin/billing/webhook/replay?dryRun=true", headers=admin, json=asked)
    assert (dry.status_code, dry.json["outcome"]) == (200, "applied")
    assert dry.json["changes"] == [{"field": "extras", "previous": 0, "updated": UNITS}]
    assert client.post("/api/admin/billing/webhook/replay", headers=admin, json=asked).status_code == 202
    run()
    assert (row(event_id).state, row(event_id).reason) == ("succeeded", None)
    assert extras.balance_of(org_id) == UNITS


def test_an_organization_that_becomes_known_gets_its_pack(pack, arrive, run, row, client, admin):
    org_id = ObjectId()
    pack(org_id)
    [event_id] = arrive(COMPLETED)
    run()
    assert (row(event_id).state, row(event_id).reason) == ("failed", "organization_unknown")
    told = {"name": "Late", "slug": "late"}
    assert client.put(f"/api/billing/organizations/{org_id}", headers=admin, json=told).status_code in (200, 201)
    run()
    assert (row(event_id).outcome, extras.balance_of(org_id)) == ("applied", UNITS)


def test_a_session_that_names_nobody_waits_and_is_told_of(pack, arrive, run, row):
    pack(None)
    [event_id] = arrive(COMPLETED)
    for _ in range(5):
        run(later=True)
    assert (row(event_id).state, row(event_id).reason) == ("dead", "organization_unknown")
    assert OutboxSignal.objects(name="webhook_dead").count() == 1
    assert entries() == []


def test_a_session_that_names_another_organization_than_its_customer_is_refused(
    billed, organization, pack, arrive, run, row
):
    it, other = billed(), organization()
    pack(other, customer=it.customer)
    [event_id] = arrive(COMPLETED)
    run()
    assert (row(event_id).state, row(event_id).reason) == ("dead", "customer_shared")
    assert entries() == []


def test_another_products_payment_is_ignored(deliver, event_of, run, ends):
    session = {"object": "checkout.session", "id": "cs_test_1", "mode": "payment", "payment_status": "paid"}
    event = event_of(COMPLETED, session | {"metadata": {"kind": "book"}, "created": int(time.time())})
    deliver(event)
    run()
    assert (ends([event["id"]]), len(Organization.objects)) == ({IGNORED}, 0)
