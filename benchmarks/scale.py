"""How long to measure: a first look (`BENCH=quick`, about a minute), numbers to rely on (some minutes), or also what is
large (`BENCH=long`).
"""

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

CONNECTIONS = 16


@dataclass(frozen=True)
class Scale:
    """Seconds and repetitions of the measurements."""

    pairs: int
    accept_seconds: float
    applied_events: int
    looked_up_events: int
    sustained_steps: int
    sustained_seconds: float
    admin_seconds: float
    organizations: int
    ledger_events: int
    ledger_depth: int
    # Sizes of accounts, the smallest first.
    reconciled: tuple[int, ...]
    usage_records: int
    # Organizations that are due at once, the smallest number first.
    reset: tuple[int, ...]
    # How often each view of the console is opened.
    opened: int


FULL = Scale(
    7, 4.0, 2_000, 600, 5, 20.0, 3.0, 50_000, 1_000_000, 50_000, (10_000, 100_000), 1_000, (10_000, 100_000), 21
)
QUICK = Scale(3, 1.5, 500, 150, 3, 5.0, 0.5, 10_000, 50_000, 2_500, (2_000, 10_000), 200, (1_000, 5_000), 5)
LONG = replace(FULL, reconciled=(*FULL.reconciled, 1_000_000))


def median(values: Iterable[float]) -> float:
    return statistics.median(values)


def in_turn(times: int, ours: Callable[[], float], other: Callable[[], float]) -> tuple[float, float, float]:
    """Measure both in turn; the median of each and the median of the pairs' ratios."""
    pairs = [(ours(), other()) for _ in range(times)]
    return (
        median(each[0] for each in pairs),
        median(each[1] for each in pairs),
        median(mine / other for mine, other in pairs),
    )
