"""Money of extras that went back, by refunds and disputes: the units go with it, once, whatever the order of events."""

import itertools
import os
import threading
from dataclasses import replace
from datetime import timedelta

import pytest

from billing_service import extras
from billing_service.documents import LedgerEntry, OutboxSignal, RefundRequest, WebhookEvent, database_now
from billing_service.webhooks import handle_due
from billing_service.webhooks.replay import foresee

APPLIED = ("succeeded", "applied", None)
COMPLETED = "checkout.session.completed"
REFUNDS = ("charge.refunded", "refund.created", "refund.updated", "refund.failed")
WITHDRAWN = "charge.dispute.funds_withdrawn"
UNITS, PAID = 100_000, 4_900


@pytest.fixture
def bought(billed, pack, charge_of, arrive, run):
    """Makes an organization with a pack that is credited; returns it and the pack's charge."""

    def make():
        it = billed()
        session = pack(it.org_id, customer=it.customer)
        arrive(COMPLETED)
        run()
        assert extras.balance_of(it.org_id) == UNITS
        return it, charge_of(session)

    return make


def kinds():
    return [(each.kind, each.units) for each in LedgerEntry.objects.order_by("id")]


def share(money):
    return UNITS * money // PAID


def test_a_refund_takes_its_part(bought, stripe, arrive, run, ends):
    it, charge = bought()
    refund = stripe.refunds.create({"charge": charge.id, "amount": 1_000})
    ids = arrive("charge.refunded", "refund.created")
    run()
    assert ends(ids) == {APPLIED}
    assert extras.balance_of(it.org_id) == UNITS - share(1_000)
    lot, entry = LedgerEntry.objects.order_by("id")
    assert (entry.kind, entry.ref, entry.lot) == ("refund", f"refund:{refund.id}", lot.pk)
    assert (entry.amount, entry.currency, entry.charge) == (1_000, "usd", charge.id)
    assert lot.remaining == UNITS - share(1_000)


def test_several_refunds_take_all_and_not_a_unit_more(bought, stripe, arrive, run):
    it, charge = bought()
    gone = 0
    for amount in (1, 1_633, 1_633, 1_633):
        stripe.refunds.create({"charge": charge.id, "amount": amount})
        gone += amount
        arrive("charge.refunded", "refund.created")
        run()
        assert extras.balance_of(it.org_id) == UNITS - share(gone)
    assert gone == PAID
    assert extras.balance_of(it.org_id) == 0
    assert LedgerEntry.objects(kind="refund").count() == 4


def test_twice_is_once(bought, stripe, arrive, run):
    it, charge = bought()
    stripe.refunds.create({"charge": charge.id, "amount": 1_000})
    arrive(*REFUNDS[:2])
    run()
    WebhookEvent.objects(type__in=REFUNDS).update(set__state="received")
    run()
    assert extras.balance_of(it.org_id) == UNITS - share(1_000)


def test_a_refund_that_fails_gives_back_what_it_took(bought, stripe, sandbox, arrive, run):
    it, charge = bought()
    bought_lot = LedgerEntry.objects.get()
    refund = stripe.refunds.create({"charge": charge.id})
    arrive(*REFUNDS[:2])
    run()
    assert extras.balance_of(it.org_id) == 0
    sandbox.settle_refund(refund.id, "fail")
    arrive("refund.failed", "refund.updated")
    run()
    assert extras.balance_of(it.org_id) == UNITS
    back = LedgerEntry.objects.get(kind="refund_reversed")
    assert (back.ref, back.units, back.remaining, back.lot) == (
        f"refund_reversed:{refund.id}",
        UNITS,
        UNITS,
        bought_lot.pk,
    )
    assert abs(back.expires_at - bought_lot.expires_at) < timedelta(minutes=1)


def test_a_refund_that_failed_before_it_was_seen_moves_nothing(bought, stripe, sandbox, arrive, run, ends):
    _, charge = bought()
    sandbox.settle_refund(stripe.refunds.create({"charge": charge.id}).id, "fail")
    ids = arrive(*REFUNDS)
    run()
    assert ends(ids) == {APPLIED}
    assert kinds() == [("topup", UNITS)]


def test_a_pending_refund_takes_at_once(bought, stripe, sandbox, arrive, run):
    it, charge = bought()
    sandbox.pend_refunds()
    refund = stripe.refunds.create({"charge": charge.id})
    arrive("refund.created")
    run()
    assert extras.balance_of(it.org_id) == 0
    sandbox.settle_refund(refund.id, "succeed")
    arrive("refund.updated")
    run()
    assert extras.balance_of(it.org_id) == 0


def test_an_older_look_that_comes_later_takes_nothing_for_a_refund_that_failed(
    bought, stripe, sandbox, arrive, run, desk
):
    """A worker saw the refund pending; it failed; another worker settled that first."""
    it, charge = bought()
    sandbox.pend_refunds()
    refund = stripe.refunds.create({"charge": charge.id})
    seen = payment(desk, charge.id)
    sandbox.settle_refund(refund.id, "fail")
    arrive("refund.failed")
    run()
    extras.in_turn(lambda: extras.settle_payment(seen, desk.clock()), "it")
    assert kinds() == [("topup", UNITS)]
    assert extras.balance_of(it.org_id) == UNITS


def payment(desk, charge_id):
    from billing_service.webhooks.extras import payment_shown

    return payment_shown(desk.stripe.charge(charge_id).value, {"object": "charge"}, desk.stripe)


def test_looks_at_once_take_once(app, bought, stripe, desk):
    it, charge = bought()
    for amount in (700, 900, 1_100):
        stripe.refunds.create({"charge": charge.id, "amount": amount})
    seen = payment(desk, charge.id)
    gate, errors = threading.Barrier(6), []

    def work():
        with app.app_context():
            gate.wait()
            try:
                extras.in_turn(lambda: extras.settle_payment(seen, desk.clock()), "it")
            except Exception as error:
                errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert errors == []
    assert extras.balance_of(it.org_id) == UNITS - share(2_700)
    assert LedgerEntry.objects(kind="refund").count() == 3


@pytest.mark.parametrize("order", list(itertools.permutations(range(3)))[1:])
def test_any_order_of_events_ends_the_same(
    billed, pack, charge_of, stripe, sandbox, deliver, events_at_stripe, run, order
):
    """A top-up, two refunds of which one fails, and a dispute of the rest."""
    it = billed()
    session = pack(it.org_id, customer=it.customer)
    charge = charge_of(session)
    first = stripe.refunds.create({"charge": charge.id, "amount": 1_001})
    stripe.refunds.create({"charge": charge.id, "amount": 777})
    sandbox.settle_refund(first.id, "fail")
    sandbox.dispute(charge.id, amount=2_000)
    found = events_at_stripe(COMPLETED, *REFUNDS, WITHDRAWN)
    groups = [[each for each in found if each["type"].startswith(name)] for name in ("checkout", "re", "charge")]
    for place in order:
        for event in reversed(groups[place]):
            deliver(event)
            run()
    run(later=True)
    assert WebhookEvent.objects(state__ne="succeeded").count() == 0
    assert extras.balance_of(it.org_id) == UNITS - share(777 + 2_000)


def test_a_refund_waits_for_its_top_up_and_is_woken_by_it(billed, pack, charge_of, stripe, arrive, run, row, ends):
    it = billed()
    charge = charge_of(pack(it.org_id, customer=it.customer))
    stripe.refunds.create({"charge": charge.id, "amount": 1_000})
    ids = arrive(*REFUNDS[:2])
    run()
    assert ends(ids) == {("failed", None, "topup_missing")}
    assert row(ids[0]).organization == it.org_id
    assert len(LedgerEntry.objects) == 0
    arrive(COMPLETED)
    run()
    assert ends(ids) == {APPLIED}
    assert extras.balance_of(it.org_id) == UNITS - share(1_000)


def test_one_that_died_of_waiting_is_woken_too(organization, pack, charge_of, stripe, arrive, run, ends):
    org_id = organization()
    stripe.refunds.create({"charge": charge_of(pack(org_id)).id})
    ids = arrive("refund.created")
    for _ in range(5):
        run(later=True)
    assert ends(ids) == {("dead", None, "topup_missing")}
    arrive(COMPLETED)
    run()
    assert ends(ids) == {APPLIED}
    assert extras.balance_of(org_id) == 0


@pytest.mark.parametrize("shown", ["no session", "an unpaid session"])
def test_a_refund_of_extras_waits_though_its_session_is_not_shown_as_paid(
    billed, pack, stripe, sandbox, arrive, run, ends, shown
):
    it = billed()
    session = pack(it.org_id, customer=it.customer)
    stripe.refunds.create({"payment_intent": session.payment_intent})
    if shown == "no session":
        sandbox.remove(session.id)
    else:
        sandbox.patch(session.id, {"payment_status": "unpaid"})
    ids = arrive("charge.refunded", "refund.created")
    run()
    assert ends(ids) == {("failed", None, "topup_missing")}


def test_a_refund_in_another_currency_is_refused(bought, stripe, sandbox, arrive, run, ends):
    it, charge = bought()
    refund = stripe.refunds.create({"charge": charge.id})
    sandbox.patch(refund.id, {"currency": "eur"})
    ids = arrive("charge.refunded")
    run()
    assert ends(ids) == {("dead", None, "currency_mismatch")}
    assert extras.balance_of(it.org_id) == UNITS
    [told] = OutboxSignal.objects(name="extras_refused")
    assert (told.organization, told.facts["charge_id"]) == (it.org_id, charge.id)


def test_a_refund_that_an_admin_asked_for_is_settled_with_the_units(bought, client, admin, arrive, run, ends):
    it, charge = bought()
    body = {"chargeId": charge.id, "amountCents": 1_000, "refundRequestId": "request-1"}
    assert client.post("/api/admin/billing/refund", headers=admin, json=body).status_code == 200
    ids = arrive("refund.created", "charge.refunded")
    run()
    assert ends(ids) == {APPLIED}
    assert RefundRequest.objects.get().state == "succeeded"
    assert extras.balance_of(it.org_id) == UNITS - share(1_000)


def test_it_reports_stripe_down(bought, stripe, sandbox, arrive, run, ends, runtime):
    it, charge = bought()
    stripe.refunds.create({"charge": charge.id})
    ids = arrive("refund.created")
    sandbox.arm("drop", path="/v1/refunds", times=None)
    run()
    assert ends(ids) == {("failed", None, "outage")}
    sandbox.disarm()
    runtime.stripe.circuit.succeeded()
    run(later=True)
    assert (ends(ids), extras.balance_of(it.org_id)) == ({APPLIED}, 0)


def test_what_was_used_is_owed_after_a_refund(bought, stripe, arrive, run, runtime):
    it, charge = bought()
    used = {"organization": it.org_id, "kind": "debit", "units": -30_000, "ref": "usage:1", "at": runtime.clock()}
    extras.book(used)
    stripe.refunds.create({"charge": charge.id})
    arrive("refund.created")
    run()
    assert extras.balance_of(it.org_id) == -30_000


def test_what_expired_is_not_taken_again(bought, stripe, arrive, run, runtime):
    it, charge = bought()
    used = {"organization": it.org_id, "kind": "debit", "units": -30_000, "ref": "usage:1", "at": runtime.clock()}
    extras.book(used)
    over = runtime.clock() + timedelta(days=400)
    assert extras.expire(extras.Expired(runtime.clock()), now=over, stop=lambda: False).counts["units"] == 70_000
    stripe.refunds.create({"charge": charge.id})
    arrive("refund.created")
    run()
    assert extras.balance_of(it.org_id) == -30_000


@pytest.mark.parametrize("metered", [True, False])
def test_what_is_over_and_not_booked_out_yet_is_not_taken(bought, stripe, arrive, desk, runtime, metered):
    """With METER_MODE it makes no difference whether the refund or the night's job comes first."""
    it, charge = bought()
    used = {"organization": it.org_id, "kind": "debit", "units": -30_000, "ref": "usage:1", "at": runtime.clock()}
    extras.book(used)
    stripe.refunds.create({"charge": charge.id, "amount": PAID // 2})
    [event_id] = arrive("refund.created")
    over = runtime.clock() + timedelta(days=400)
    late = replace(desk, clock=lambda: over, metered=metered)
    foretold = foresee(event_id, force=False, desk=late, livemode=False).extras
    handle_due(late, stop=lambda: False)
    assert foretold == (70_000, extras.balance_of(it.org_id))
    assert extras.expire(extras.Expired(runtime.clock()), now=over, stop=lambda: False).counts["failed"] == 0
    taken = [units for kind, units in kinds() if kind in ("expiration", "refund")]
    assert taken == ([-70_000, -30_000] if metered else [-50_000, -20_000])
    assert extras.balance_of(it.org_id) == (-30_000 if metered else 0)


def test_it_is_in_the_timeline(bought, stripe, arrive, run, client, admin):
    it, charge = bought()
    refund = stripe.refunds.create({"charge": charge.id, "amount": 1_000})
    arrive("refund.created")
    run()
    found = client.get(f"/api/admin/billing/timeline/{it.org_id}?kind=extras", headers=admin).json["items"]
    assert [(each["extras"]["ref"], each["extras"]["units"]) for each in found] == [
        (f"refund:{refund.id}", -share(1_000)),
        (LedgerEntry.objects.get(kind="topup").ref, UNITS),
    ]


# Disputes


def test_a_dispute_takes_its_part_once(bought, sandbox, arrive, run, ends):
    it, charge = bought()
    dispute = sandbox.dispute(charge.id, amount=2_450)
    ids = arrive(WITHDRAWN)
    run()
    WebhookEvent.objects(type=WITHDRAWN).update(set__state="received")
    run()
    assert ends(ids) == {APPLIED}
    entry = LedgerEntry.objects.get(kind="debit")
    assert (entry.ref, entry.units, entry.amount, entry.currency) == (f"dispute:{dispute['id']}", -50_000, 2_450, "usd")
    assert (entry.charge, entry.lot) == (charge.id, LedgerEntry.objects.get(kind="topup").pk)
    assert extras.balance_of(it.org_id) == UNITS // 2


def test_a_guests_dispute_waits_for_the_top_up(billed, pack, charge_of, sandbox, arrive, run, ends):
    it = billed()
    charge = charge_of(pack(it.org_id))  # the charge names no customer
    sandbox.dispute(charge.id)
    withdrawn, opened = arrive(WITHDRAWN), arrive("charge.dispute.created")
    run()
    assert (ends(withdrawn), ends(opened)) == ({("failed", None, "topup_missing")}, {APPLIED})
    assert OutboxSignal.objects(name="dispute_opened").first().organization == it.org_id
    arrive(COMPLETED)
    run()
    assert (ends(withdrawn), extras.balance_of(it.org_id)) == ({APPLIED}, 0)


def test_refunds_and_disputes_take_no_more_than_was_bought(bought, stripe, sandbox, arrive, run):
    it, charge = bought()
    stripe.refunds.create({"charge": charge.id, "amount": 1_000})
    sandbox.dispute(charge.id, amount=PAID)
    arrive(*REFUNDS[:2], WITHDRAWN)
    run()
    assert extras.balance_of(it.org_id) == 0
    assert [units for kind, units in kinds() if kind == "debit"] == [share(1_000) - UNITS]


def test_an_inquiry_takes_nothing(bought, sandbox, stripe, arrive, run):
    it, charge = bought()
    sandbox.dispute(charge.id, inquiry=True)
    stripe.refunds.create({"charge": charge.id, "amount": 100})
    arrive("refund.created")
    run()
    assert extras.balance_of(it.org_id) == UNITS - share(100)


def credit(client, admin, it, charge, **more):
    body = {"chargeId": charge.id, "amountCents": PAID, "refundRequestId": "credit-1"} | more
    return client.post(f"/api/admin/billing/dispute/credit/{it.org_id}", headers=admin, json=body)


def test_a_won_dispute_is_credited_once_and_can_be_refunded_then(bought, stripe, sandbox, arrive, run, client, admin):
    it, charge = bought()
    dispute = sandbox.dispute(charge.id)
    arrive(WITHDRAWN)
    run()
    sandbox.close_dispute(dispute["id"], "won")
    arrive("charge.dispute.funds_reinstated")
    run()
    assert extras.balance_of(it.org_id) == 0
    [told] = OutboxSignal.objects(name="dispute_reinstated")
    assert told.facts["next"] == f"POST /api/admin/billing/dispute/credit/{it.org_id}"
    assert [credit(client, admin, it, charge).json["applied"] for _ in range(2)] == [True, False]
    assert extras.balance_of(it.org_id) == UNITS
    stripe.refunds.create({"charge": charge.id})
    arrive("refund.created")
    run()
    assert extras.balance_of(it.org_id) == 0


@pytest.mark.parametrize("refunded", [1_000, PAID])
def test_a_refund_that_fails_while_a_dispute_holds_its_money(
    bought, stripe, sandbox, arrive, run, client, admin, refunded
):
    """The units are the dispute's then, and all of them come back when it is won."""
    it, charge = bought()
    refund = stripe.refunds.create({"charge": charge.id, "amount": refunded})
    arrive("refund.created")
    run()
    dispute = sandbox.dispute(charge.id, amount=PAID)
    arrive(WITHDRAWN)
    run()
    assert extras.balance_of(it.org_id) == 0
    sandbox.settle_refund(refund.id, "fail")
    arrive("refund.failed")
    run()
    assert extras.balance_of(it.org_id) == 0
    assert ("refund_reversed", share(refunded)) in kinds()
    sandbox.close_dispute(dispute["id"], "won")
    answer = credit(client, admin, it, charge)
    assert (answer.status_code, answer.json["units"]) == (200, UNITS)
    assert extras.balance_of(it.org_id) == UNITS


def test_a_died_worker_has_booked_all_or_nothing(bought, stripe, arrive, desk, row):
    it, charge = bought()
    stripe.refunds.create({"charge": charge.id, "amount": 1_000})
    [event_id] = arrive("refund.created")
    taken = []

    def clock():  # asked for as it books, inside the transaction
        taken.append(row(event_id).state)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        handle_due(replace(desk, clock=clock), stop=lambda: False)
    assert taken == ["processing"]
    assert extras.balance_of(it.org_id) == UNITS
    WebhookEvent.objects(event_id=event_id).update_one(set__state="received", unset__lease_owner=True)
    handle_due(desk, stop=lambda: False)
    assert extras.balance_of(it.org_id) == UNITS - share(1_000)


def test_what_a_refund_has_paid_out_is_not_credited_by_a_won_dispute(
    bought, stripe, sandbox, arrive, run, client, admin
):
    """The dispute was won, then all was refunded, then an admin follows the alert."""
    it, charge = bought()
    dispute = sandbox.dispute(charge.id)
    arrive(WITHDRAWN)
    run()
    sandbox.close_dispute(dispute["id"], "won")
    stripe.refunds.create({"charge": charge.id, "amount": 2_450})
    arrive("refund.created")
    run()
    assert extras.balance_of(it.org_id) == 0
    answer = credit(client, admin, it, charge)
    assert (answer.status_code, answer.json["units"]) == (200, UNITS // 2)
    stripe.refunds.create({"charge": charge.id})
    arrive("refund.created")
    run()
    assert extras.balance_of(it.org_id) == 0
    assert [credit(client, admin, it, charge, refundRequestId="credit-2").json["applied"]] == [False]


def test_a_won_dispute_of_what_was_refunded_is_refused(bought, stripe, sandbox, arrive, run, client, admin):
    it, charge = bought()
    dispute = sandbox.dispute(charge.id)
    arrive(WITHDRAWN)
    run()
    sandbox.close_dispute(dispute["id"], "won")
    stripe.refunds.create({"charge": charge.id})
    arrive("refund.created")
    run()
    answer = credit(client, admin, it, charge)
    assert (answer.status_code, answer.json["code"]) == (409, "nothing_to_credit")
    assert "Refunds" in answer.json["detail"]
    assert extras.balance_of(it.org_id) == 0


WHEN = [True, False] if os.environ.get("BILLING_TESTS") == "long" else [True]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("after", WHEN)
def test_a_worker_killed_at_each_of_its_writes_books_once(
    billed, pack, charge_of, stripe, arrive, mortal_job, run, after
):
    """It credits a pack, and takes what a refund took."""
    for number in range(1, 60):
        it = billed()
        charge = charge_of(pack(it.org_id, customer=it.customer))
        stripe.refunds.create({"charge": charge.id, "amount": 1_000})
        arrive(COMPLETED, "refund.created")
        lived = mortal_job("billing_service.jobs.dispatch:dispatch", number, after)
        past = database_now() - timedelta(seconds=1)
        WebhookEvent.objects(state="processing").update(set__lease_until=past)
        for _ in range(2):
            run(later=True)
        assert extras.balance_of(it.org_id) == UNITS - share(1_000), number
        mine = LedgerEntry.objects(organization=it.org_id)
        assert sorted(each.kind for each in mine) == ["refund", "topup"], number
        assert sum(each.remaining or 0 for each in mine) == UNITS - share(1_000), number
        assert WebhookEvent.objects(state__ne="succeeded").count() == 0, number
        if lived:
            assert number > 6
            return
    raise AssertionError("it writes more than 60 times")
