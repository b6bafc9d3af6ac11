"""What does not fit between Stripe and us: noticed, remembered, acknowledged. Nothing here writes a subscription."""

from .findings import acknowledge, find_finding, find_findings, foretell_acknowledgement, organization_of, reopen_lapsed
from .holding import Desk, summary_of
from .reading import active_run, described, estimate, find_run, find_runs
from .run import Turn, go_on, interrupt, is_due, mark_abandoned, repeat_failed, require_startable, start

__all__ = [
    "Desk",
    "Turn",
    "acknowledge",
    "active_run",
    "described",
    "estimate",
    "find_finding",
    "find_findings",
    "find_run",
    "find_runs",
    "foretell_acknowledgement",
    "go_on",
    "interrupt",
    "is_due",
    "mark_abandoned",
    "organization_of",
    "reopen_lapsed",
    "repeat_failed",
    "require_startable",
    "start",
    "summary_of",
]
