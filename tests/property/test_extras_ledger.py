"""Whatever is booked at the same time, twice, or by somebody who dies of it: the balance is the sum of the entries, no
reference is there twice, and what the lots hold is what can be used."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from bson import ObjectId
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from mongoengine.connection import get_db

from billing_service import extras
from billing_service.documents import ExtraBalance, LedgerEntry

EXAMPLES = 1_000 if os.environ.get("BILLING_TESTS") == "long" else 40
NOW = datetime(2026, 11, 25, tzinfo=UTC)
ORGANIZATIONS = (ObjectId(), ObjectId())

gained = st.tuples(st.sampled_from(["topup", "adjustment", "refund_reversed", "settlement"]), st.integers(1, 50))
lost = st.tuples(st.sampled_from(["debit", "refund", "adjustment"]), st.integers(-50, -1))
expired = st.tuples(st.just("expiration"), st.just(-(2**40)))


@st.composite
def bookings(draw):
    """An organization, what is booked, under which reference, about which lot, how long it lasts, who dies of it."""
    kind, units = draw(st.one_of(gained, gained, lost, lost, expired))
    return {
        "organization": draw(st.sampled_from(ORGANIZATIONS)),
        "kind": kind,
        "units": units,
        "ref": f"{kind}:{draw(st.integers(0, 5))}",
        "lot": draw(st.integers(0, 9)),
        "days": draw(st.sampled_from([None, 1, 30])),
        "dies": draw(st.sampled_from([False, False, False, True])),
    }


class Died(BaseException):
    """The end of whoever was booking, before anything of it was committed."""


def die(booked):
    raise Died


def attempt(wanted):
    """Book it as it is wanted; the entry in the ledger and whether this put it there, None if nobody lived to tell."""
    lots = list(LedgerEntry.objects(organization=wanted["organization"], units__gt=0).order_by("id").scalar("id"))
    about = lots[wanted["lot"] % len(lots)] if lots else None
    expires_at = NOW + timedelta(days=wanted["days"]) if wanted["days"] else None
    fields = {name: wanted[name] for name in ("organization", "kind", "units", "ref")}
    fields |= {"lot": about, "at": NOW, "expires_at": expires_at if wanted["units"] > 0 else None}
    try:
        return extras.book(fields, also=die if wanted["dies"] else None)
    except Died:
        return None


def at_once(wired, wanted):
    """Each in its own thread, all at the same moment."""
    gate = threading.Barrier(len(wanted))

    def run(each):
        with wired.app_context():
            gate.wait()
            return attempt(each)

    with ThreadPoolExecutor(len(wanted)) as pool:
        return list(pool.map(run, wanted))


def check():
    refs = [each.ref for each in LedgerEntry.objects]
    assert len(refs) == len(set(refs))
    for org_id in ORGANIZATIONS:
        entries = list(LedgerEntry.objects(organization=org_id))
        balance = extras.balance_of(org_id)
        assert balance == sum(each.units for each in entries)
        left = [(each.remaining, each.units) for each in entries if each.units > 0]
        assert all(0 <= remaining <= units for remaining, units in left)
        assert sum(remaining for remaining, _ in left) == max(0, balance)
        assert not [each for each in entries if each.units < 0 and each.remaining is not None]
        found = ExtraBalance.objects(organization=org_id).first()
        assert 0 <= (found.claimed if found else 0) <= max(0, -balance)


@pytest.mark.timeout(3600)  # the long run takes a while
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(rounds=st.lists(st.lists(bookings(), min_size=1, max_size=5), min_size=1, max_size=6))
def test_the_balance_is_the_sum(app, rounds):
    note(f"{rounds=}")
    for name in ("ledger_entries", "extra_balances"):
        get_db()[name].delete_many({})
    booked = []
    for wanted in rounds:
        booked += at_once(app, wanted)
        check()
    applied = [each.entry.ref for each in booked if each and each.applied]
    assert sorted(applied) == sorted(each.ref for each in LedgerEntry.objects)
    assert len(ExtraBalance.objects) <= len(ORGANIZATIONS)


def test_many_at_once_all_land(app):
    """One organization that has no balance yet: its first entries are all at the same time."""
    org_id = ORGANIZATIONS[0]
    wanted = [
        {
            "organization": org_id,
            "kind": "topup",
            "units": 1,
            "ref": f"topup:{number}",
            "lot": 0,
            "days": 1,
            "dies": False,
        }
        for number in range(12)
    ]
    assert all(each.applied for each in at_once(app, wanted))
    assert extras.balance_of(org_id) == 12


def entry(kind, units, ref, **more):
    return extras.book({"organization": ORGANIZATIONS[0], "kind": kind, "units": units, "ref": ref, "at": NOW} | more)


def left_of(ref):
    return LedgerEntry.objects(ref=ref).first().remaining


def test_what_expires_first_is_used_first(app):
    entry("topup", 100, "topup:late", expires_at=NOW + timedelta(days=30))
    entry("topup", 100, "topup:soon", expires_at=NOW + timedelta(days=10))
    entry("topup", 100, "topup:never")
    entry("debit", -150, "debit:1")
    assert (left_of("topup:soon"), left_of("topup:late"), left_of("topup:never")) == (0, 50, 100)


def test_a_refund_takes_from_what_it_paid_for(app):
    lot = entry("topup", 100, "topup:1", expires_at=NOW + timedelta(days=30)).entry
    entry("topup", 100, "topup:2", expires_at=NOW + timedelta(days=10))
    entry("refund", -100, "refund:1", lot=lot.pk)
    assert (left_of("topup:1"), left_of("topup:2"), extras.balance_of(ORGANIZATIONS[0])) == (0, 100, 100)


def test_a_second_refund_takes_what_came_back_of_the_first_though_another_pack_ends_sooner(app):
    """Else the other pack would be used up, and what came back could expire: twice the units that were bought."""
    mine = {"payment_intent": "pi_1", "expires_at": NOW + timedelta(days=30)}
    lot = entry("topup", 100, "topup:1", **mine).entry
    entry("topup", 100, "topup:2", payment_intent="pi_2", expires_at=NOW + timedelta(days=10))
    entry("refund", -100, "refund:1", lot=lot.pk, payment_intent="pi_1")
    entry("refund_reversed", 100, "refund_reversed:1", lot=lot.pk, **mine)
    entry("refund", -60, "refund:2", lot=lot.pk, payment_intent="pi_1")
    assert (left_of("refund_reversed:1"), left_of("topup:2")) == (40, 100)
    entry("debit", -50, "usage:1")
    assert (left_of("refund_reversed:1"), left_of("topup:2")) == (40, 50)


def test_what_is_owed_is_paid_before_anything_can_be_used(app):
    entry("debit", -70, "debit:1")
    booked = entry("topup", 100, "topup:1")
    assert (booked.before, booked.balance, booked.entry.remaining) == (-70, 30, 30)


def test_what_refunds_and_disputes_caused_of_a_debt_is_told_from_the_rest(app):
    lot = entry("topup", 100, "topup:1").entry
    entry("debit", -130, "usage:1")
    assert extras.overflow_owed(ORGANIZATIONS[0]) == 30
    entry("refund", -100, "refund:1", lot=lot.pk)
    entry("debit", -5, "usage:2")
    assert (extras.balance_of(ORGANIZATIONS[0]), extras.overflow_owed(ORGANIZATIONS[0])) == (-135, 35)
    entry("refund_reversed", 40, "refund_reversed:1")
    assert (extras.balance_of(ORGANIZATIONS[0]), extras.overflow_owed(ORGANIZATIONS[0])) == (-95, 35)
    entry("topup", 20, "topup:2")
    assert (extras.balance_of(ORGANIZATIONS[0]), extras.overflow_owed(ORGANIZATIONS[0])) == (-75, 15)
    entry("topup", 20, "topup:3")
    assert (extras.balance_of(ORGANIZATIONS[0]), extras.overflow_owed(ORGANIZATIONS[0])) == (-55, 0)
    entry("topup", 155, "topup:4")
    entry("debit", -110, "usage:3")
    assert (extras.balance_of(ORGANIZATIONS[0]), extras.overflow_owed(ORGANIZATIONS[0])) == (-10, 10)


def test_only_what_remains_expires_and_only_once(app):
    lot = entry("topup", 100, "topup:1").entry
    entry("topup", 100, "topup:2")
    entry("debit", -60, "debit:1", lot=lot.pk)
    first, second = (entry("expiration", -100, "expiration:1", lot=lot.pk) for _ in range(2))
    assert (first.applied, first.entry.units, first.balance) == (True, -40, 100)
    assert (second.applied, second.entry.units, second.balance) == (False, -40, 100)
    assert not entry("expiration", -100, "expiration:2", lot=lot.pk).applied
    assert LedgerEntry.objects(kind="expiration").count() == 1


@pytest.mark.parametrize(("kind", "units"), [("topup", -1), ("settlement", -5), ("debit", 1), ("expiration", 1)])
def test_units_of_the_wrong_sign_are_refused(app, kind, units):
    with pytest.raises(ValueError, match=kind):
        entry(kind, units, "wrong:1")
    assert len(LedgerEntry.objects) + len(ExtraBalance.objects) == 0
