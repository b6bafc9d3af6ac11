"""What does not fit between Stripe and us: noticed, remembered, acknowledged. Nothing here writes a subscription."""

from .findings import acknowledge, find_findings, foretell_acknowledgement, organization_of, reopen_lapsed

__all__ = ["acknowledge", "find_findings", "foretell_acknowledgement", "organization_of", "reopen_lapsed"]
