"""Refunds that fail and disputes that are won, one after the other: once all money is back all units are, no more."""

import threading
from datetime import timedelta

import pytest

from billing_service import extras
from billing_service.documents import ExtraBalance, LedgerEntry
from billing_service.webhooks.extras import payment_shown

UNITS, PAID = 100_000, 4_900
COMPLETED, WITHDRAWN = "checkout.session.completed", "charge.dispute.funds_withdrawn"


@pytest.fixture
def bought(billed, pack, charge_of, arrive, run):
    """An organization with a pack that is credited, and the pack's charge."""
    it = billed()
    session = pack(it.org_id, customer=it.customer)
    arrive(COMPLETED)
    run()
    return it, charge_of(session)


@pytest.fixture
def refunded(bought, stripe, arrive, run):
    """Refunds so many cents of it; returns the refund's id."""

    def make(amount):
        refund = stripe.refunds.create({"charge": bought[1].id, "amount": amount})
        arrive("refund.created")
        run()
        return refund.id

    return make


@pytest.fixture
def failed(sandbox, arrive, run):
    """Lets a refund fail."""

    def make(refund_id):
        sandbox.settle_refund(refund_id, "fail")
        arrive("refund.failed")
        run()

    return make


@pytest.fixture
def disputed(bought, sandbox, arrive, run):
    """Disputes so many cents of it; returns the dispute's id."""

    def make(amount):
        dispute = sandbox.dispute(bought[1].id, amount=amount)
        arrive(WITHDRAWN)
        run()
        return dispute["id"]

    return make


@pytest.fixture
def credit(bought, client, admin):
    """Asks for so many cents of a won dispute; returns the answer."""

    def ask(amount, query=""):
        it, charge = bought
        body = {"chargeId": charge.id, "amountCents": amount, "refundRequestId": "credit-1"}
        return client.post(f"/api/admin/billing/dispute/credit/{it.org_id}{query}", headers=admin, json=body)

    return ask


def units(ref):
    return LedgerEntry.objects.get(ref=ref).units


def test_a_unit_that_a_failed_refund_gave_back_is_not_given_back_again(
    bought, refunded, failed, disputed, credit, sandbox
):
    """A cent is 20.4 units: a cent and two more take 20 and 41, a cent that comes back first gives back 21."""
    refund, dispute = refunded(1), disputed(2)
    assert (units(f"refund:{refund}"), units(f"dispute:{dispute}")) == (-20, -41)
    failed(refund)
    assert units(f"refund_reversed:{refund}") == 21
    sandbox.close_dispute(dispute, "won")
    answer = credit(2)
    assert (answer.status_code, answer.json["units"], answer.json["applied"]) == (200, 40, True)
    assert extras.balance_of(bought[0].org_id) == UNITS


def test_a_dispute_that_comes_back_first_gives_back_what_makes_the_sum_exact(
    bought, refunded, failed, disputed, credit, sandbox
):
    dispute = disputed(2)
    sandbox.close_dispute(dispute, "won")
    refund = refunded(1)
    assert (units(f"refund:{refund}"), units(f"dispute:{dispute}")) == (-21, -40)
    assert credit(2).json["units"] == 41
    assert extras.balance_of(bought[0].org_id) == UNITS - 20
    failed(refund)
    assert extras.balance_of(bought[0].org_id) == UNITS


@pytest.fixture
def mostly_expired(bought, runtime):
    """The pack is over: 60,000 of its units have expired, the others were used."""
    it, _ = bought
    now = runtime.clock()
    extras.book({"organization": it.org_id, "kind": "debit", "units": -40_000, "ref": "usage:1", "at": now})
    done = extras.expire(extras.Expired(now), now=now + timedelta(days=400), stop=lambda: False)
    assert (done.counts["units"], extras.balance_of(it.org_id)) == (60_000, 0)


@pytest.mark.parametrize("amount", [PAID // 2, PAID])
def test_a_dispute_for_which_nothing_was_left_holds_what_a_refund_took(
    bought, mostly_expired, refunded, failed, disputed, credit, sandbox, amount
):
    """The refund took all units that had not expired. It fails: they are the dispute's, and come back with it."""
    refund, dispute = refunded(PAID // 2), disputed(amount)
    assert (units(f"refund:{refund}"), extras.balance_of(bought[0].org_id)) == (-40_000, -40_000)
    failed(refund)
    assert extras.balance_of(bought[0].org_id) == -40_000
    sandbox.close_dispute(dispute, "won")
    answer = credit(amount)
    assert (answer.status_code, answer.json["units"]) == (200, 40_000)
    assert extras.balance_of(bought[0].org_id) == 0


def test_what_a_refund_would_have_taken_does_not_come_back_with_the_dispute(
    bought, mostly_expired, refunded, disputed, credit, sandbox
):
    """The dispute took what had not expired, and left nothing for the refund, whose money stays away."""
    dispute = disputed(PAID // 2)
    sandbox.close_dispute(dispute, "won")
    refund = refunded(PAID // 2)
    assert (units(f"dispute:{dispute}"), units(f"refund:{refund}")) == (-40_000, 0)
    answer = credit(PAID // 2)
    assert (answer.status_code, answer.json["code"]) == (409, "nothing_to_credit")
    assert extras.balance_of(bought[0].org_id) == -40_000


def test_a_part_gives_back_no_more_than_its_share_of_the_whole(bought, refunded, failed, disputed, credit, sandbox):
    refund, dispute = refunded(1), disputed(2)
    failed(refund)
    sandbox.close_dispute(dispute, "won")
    answer = credit(1)
    assert (answer.status_code, answer.json["units"]) == (200, 20)
    assert extras.balance_of(bought[0].org_id) == UNITS - 20


def test_a_dry_run_foretells_the_same(bought, refunded, failed, disputed, credit, sandbox):
    refund, dispute = refunded(1), disputed(2)
    failed(refund)
    sandbox.close_dispute(dispute, "won")
    answer = credit(2, "?dryRun=true")
    assert (answer.status_code, answer.json["units"]) == (200, 40)


def test_a_refund_that_moves_no_unit_still_counts_for_a_credit_at_the_same_time(
    app, bought, refunded, disputed, stripe, sandbox, desk
):
    """499 cents are a unit, 480 are none, and 19 more are none beside the dispute: who books first does not matter."""
    it, charge = bought
    LedgerEntry.objects(kind="topup").update(units=10, remaining=10)
    ExtraBalance.objects(organization=it.org_id).update(units=10)
    assert units(f"refund:{refunded(480)}") == 0
    dispute = disputed(2_440)
    assert units(f"dispute:{dispute}") == -5
    sandbox.close_dispute(dispute, "won")
    stripe.refunds.create({"charge": charge.id, "amount": 19})
    seen = payment_shown(desk.stripe.charge(charge.id).value, {"object": "charge"}, desk.stripe)

    def settle():
        with app.app_context():
            extras.in_turn(lambda: extras.settle_payment(seen, desk.clock()), "it")

    other = threading.Thread(target=settle)

    def meanwhile(outcome):
        if not other.ident:
            other.start()
            other.join(1)

    wanted = extras.Wanted(charge.id, 2_440, "credit-1")
    told = {"actor": "ada", "note": None, "also": meanwhile}
    extras.credit_dispute(it.org_id, wanted, stripe=desk.stripe, now=desk.clock(), **told)
    other.join()
    assert extras.balance_of(it.org_id) == 10 - 1
