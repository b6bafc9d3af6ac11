"""Billing periods: boundaries counted from the anchor, so that a 31st does not drift."""

from __future__ import annotations

import calendar
from datetime import UTC, datetime

SECONDS = {"day": 86400, "week": 7 * 86400}


def boundary(anchor: int, interval: str, steps: int) -> int:
    if interval in SECONDS:
        return anchor + steps * SECONDS[interval]
    start = datetime.fromtimestamp(anchor, UTC)
    months = start.year * 12 + start.month - 1 + steps * (12 if interval == "year" else 1)
    year, month = divmod(months, 12)
    day = min(start.day, calendar.monthrange(year, month + 1)[1])
    return int(start.replace(year=year, month=month + 1, day=day).timestamp())


def end_after(anchor: int, recurring: dict, moment: int) -> int:
    """The first boundary of the anchor's series later than `moment`."""
    interval, count = recurring["interval"], recurring["interval_count"]
    if anchor > moment:
        return anchor
    longest = {"day": 86400, "week": 7 * 86400, "month": 31 * 86400, "year": 366 * 86400}[interval] * count
    steps = (moment - anchor) // longest
    while boundary(anchor, interval, steps * count) <= moment:
        steps += 1
    return boundary(anchor, interval, steps * count)
