"""What has to hold of an organization's extras and usage after each step, by what is stored alone."""

from billing_service.documents import ExtraBalance, LedgerEntry, UsageRecord, UsageWeek


def check_books(org_id, recorded):
    """Raise AssertionError unless they agree; `recorded`: the units under each key of usage."""
    entries = list(LedgerEntry.objects)
    assert {each.organization for each in entries} <= {org_id}
    refs = [each.ref for each in entries]
    assert len(refs) == len(set(refs)), "a reference is there twice"
    stored = ExtraBalance.objects(organization=org_id).first()
    balance = stored.units if stored else 0
    assert balance == sum(each.units for each in entries), "the balance is not the sum"
    assert sum(each.remaining or 0 for each in entries) == max(0, balance), "the lots hold something else"
    assert all(0 <= each.remaining <= each.units for each in entries if each.units > 0)
    assert not stored or 0 <= stored.claimed <= max(0, -balance)
    _check_lots(entries)
    _check_weeks(entries, recorded)


def _check_lots(entries):
    lots = {each.pk: each for each in entries}
    for each in entries:
        if each.kind == "expiration":
            lot = lots[each.lot]
            assert (lot.remaining, lot.expires_at <= each.at) == (0, True)
            assert -each.units <= lot.units
    for lot in (each for each in entries if each.kind == "topup" and each.payment_intent):
        _check_payment(lot, [each for each in entries if each.payment_intent == lot.payment_intent])


def _check_payment(lot, entries):
    """The units that are taken are those of the money that is gone by the books, at every moment."""
    back = -sum(each.units for each in entries if each.kind not in ("topup", "expiration"))
    over = -sum(each.units for each in entries if each.kind == "expiration")
    assert 0 <= back <= lot.units - over, "more came back than was taken, or more was taken than bought"
    held = sum(each.remaining or 0 for each in entries)
    assert held <= lot.units - back - over, "more can be used of it than is left"
    gone = sum(each.amount for each in entries if each.kind in ("refund", "debit"))
    gone -= sum(each.amount for each in entries if each.kind in ("refund_reversed", "adjustment"))
    wanted = lot.units * min(gone, lot.amount) // lot.amount
    took = {each.ref: each.amount for each in entries if each.kind == "debit"}
    credited = {each.ref: each.amount for each in entries if each.kind == "adjustment"}
    # The credit of a part is rounded down; what has expired is not taken again.
    parts = sum(took[ref.replace("dispute_credit:", "dispute:")] > amount for ref, amount in credited.items())
    assert min(wanted, lot.units - over) <= back <= wanted + parts


def _check_weeks(entries, recorded):
    records, weeks = list(UsageRecord.objects), list(UsageWeek.objects)
    for week in weeks:
        mine = [each for each in records if each.week == week.week]
        assert week.used - week.settled == sum(each.within for each in mine)
        assert week.overflow == sum(each.units - each.within for each in mine)
        assert week.used <= week.quota
    assert {each.key: each.units for each in records} == recorded
    assert sum(week.settled for week in weeks) == sum(each.units for each in entries if each.kind == "settlement")
    assert sum(week.overflow for week in weeks) == -sum(each.units for each in entries if each.ref.startswith("usage:"))
