"""What refunds and disputes of a payment take, on values: any looks at any state of it, in any order, end the same."""

import itertools
from datetime import UTC, datetime, timedelta

from bson import ObjectId
from hypothesis import given, settings
from hypothesis import strategies as st

from billing_service.documents import LedgerEntry
from billing_service.extras.payments import Account, Dispute, Payment, Refund

NOW = datetime(2026, 11, 25, tzinfo=UTC)
REFUNDS, DISPUTES = 4, 2


class Books:
    """The ledger of one payment, and what of it was shown to have failed."""

    def __init__(self, units, paid):
        self.lot = LedgerEntry(
            id=ObjectId(), organization=ObjectId(), kind="topup", units=units, ref="topup:cs_1", payment_intent="pi_1"
        )
        self.paid, self.entries, self.failed = paid, [self.lot], set()

    def look(self, refunds, disputes=()):
        """Book what a look at Stripe makes due."""
        payment = Payment(self.lot.organization, "pi_1", "ch_1", self.paid, "usd", tuple(refunds), tuple(disputes))
        self.failed |= set(payment.failed)
        for fields in Account(self.lot, self.entries, payment).due(sorted(self.failed)):
            self.entries.append(LedgerEntry(**fields))
        return self

    @property
    def taken(self):
        return -sum(each.units for each in self.entries[1:] if each.kind != "expiration")

    def units(self, ref):
        return [each.units for each in self.entries if each.ref == ref]


def refund(number, amount, *, failed=False):
    return Refund(f"re_{number}", amount, NOW + timedelta(seconds=number // 2), failed)


def dispute(number, amount):
    return Dispute(f"dp_{number}", amount, NOW + timedelta(seconds=number))


@st.composite
def stories(draw):
    """A payment, its refunds and disputes, and looks at them: each sees some, and failed ones as they were or are."""
    paid = draw(st.integers(1, 60))
    left = paid
    amounts = []
    for _ in range(draw(st.integers(0, REFUNDS))):
        if left:
            amounts.append(draw(st.integers(1, left)))
            left -= amounts[-1]
    failed = [draw(st.booleans()) for _ in amounts]
    disputes = [dispute(number, draw(st.integers(1, paid))) for number in range(draw(st.integers(0, DISPUTES)))]
    look = st.tuples(
        st.lists(st.sampled_from(["unseen", "as it was", "as it is"]), min_size=len(amounts), max_size=len(amounts)),
        st.lists(st.booleans(), min_size=len(disputes), max_size=len(disputes)),
    )
    return draw(st.integers(1, 100)), paid, amounts, failed, disputes, draw(st.lists(look, max_size=6))


def shown(amounts, failed, sights):
    return [
        refund(number, amount, failed=gone and sight == "as it is")
        for number, (amount, gone, sight) in enumerate(zip(amounts, failed, sights, strict=True))
        if sight != "unseen"
    ]


@settings(max_examples=200, deadline=None)
@given(stories())
def test_any_looks_end_the_same(story):
    units, paid, amounts, failed, disputes, looks = story
    books = Books(units, paid)
    for sights, seen in looks:
        books.look(shown(amounts, failed, sights), itertools.compress(disputes, seen))
        assert 0 <= books.taken <= units
    final = shown(amounts, failed, ["as it is"] * len(amounts))
    books.look(final, disputes)
    gone = sum(each.amount for each in final if not each.failed) + sum(each.amount for each in disputes)
    assert books.taken == units * min(gone, paid) // paid
    refs = [each.ref for each in books.entries]
    assert len(refs) == len(set(refs))
    before = len(books.entries)
    assert len(books.look(final, disputes).entries) == before
    for each in final:
        took, gave = f"refund:{each.id}" in refs, f"refund_reversed:{each.id}" in refs
        assert (took, gave) in (((True, True), (False, False)) if each.failed else ((True, False),))


def test_a_full_refund_takes_exactly_all():
    books = Books(10, 3)
    for number, taken in enumerate((3, 6, 10)):
        books.look([refund(each, 1) for each in range(number + 1)])
        assert books.taken == taken


def test_a_part_of_less_than_a_unit_counts_for_the_next():
    books = Books(1, 100).look([refund(0, 50)])
    assert (books.taken, books.units("refund:re_0")) == (0, [0])
    assert books.look([refund(0, 50), refund(1, 50)]).taken == 1


def test_what_failed_gives_back_what_it_took():
    books = Books(100, 3).look([refund(0, 1)])
    books.look([refund(0, 1, failed=True)])
    assert (books.units("refund:re_0"), books.units("refund_reversed:re_0"), books.taken) == ([-33], [33], 0)


def test_units_that_expired_are_not_taken_again():
    books = Books(100, 100)
    books.entries.append(LedgerEntry(kind="expiration", units=-60, ref="expiration:1", payment_intent="pi_1"))
    assert books.look([refund(0, 100)]).taken == 40
    assert books.look([refund(0, 100, failed=True)]).taken == 0


def test_a_disputed_part_and_a_refund_of_the_same_money_take_it_once():
    books = Books(100, 100).look([], [dispute(0, 100)])
    assert books.look([refund(0, 60)], [dispute(0, 100)]).taken == 100
    assert books.look([refund(0, 60, failed=True)], [dispute(0, 100)]).taken == 100
    assert books.units("dispute:dp_0") == [-100]


def test_a_dispute_takes_over_from_a_refund_that_fails():
    books = Books(100, 100).look([refund(0, 60)]).look([refund(0, 60)], [dispute(0, 100)])
    assert books.units("dispute:dp_0") == [-40]
    books.look([refund(0, 60, failed=True)], [dispute(0, 100)])
    assert (books.units("refund_reversed:re_0"), books.units("dispute:dp_0:re_0")) == ([60], [-60])
    assert books.taken == 100


def test_a_credited_dispute_lets_a_refund_take_all():
    books = Books(100, 100).look([], [dispute(0, 100)])
    books.entries.append(
        LedgerEntry(kind="adjustment", units=100, amount=100, ref="dispute_credit:dp_0", payment_intent="pi_1")
    )
    assert books.taken == 0
    assert books.look([refund(0, 100)], [dispute(0, 100)]).taken == 100
