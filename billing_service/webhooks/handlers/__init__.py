"""What each type of event does: one function per kind, registered by type.

A handler ends by settling its event, in the same transaction as its effect. What it raises instead decides
about the event in `dispatch`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from ..documents import WebhookEvent
from ..plans import Plans
from ..stripe_gateway import StripeGateway
from ..stripe_gateway.shapes import subscription as read_subscription
from ..subscriptions import follow
from . import ledger
from .ownership import OwnerDisputed, note_dispute, owner_of


@dataclass(frozen=True)
class Desk:
    """What handling an event needs of the running process."""

    stripe: StripeGateway
    plans: Plans
    retry_delays: tuple[int, ...]
    clock: Callable[[], datetime]


Handler = Callable[[WebhookEvent, Desk, ledger.Trial], None]

HANDLERS: dict[str, Handler] = {}


def handles(*types: str) -> Callable[[Handler], Handler]:
    """Register a handler for event types; the list of types to enable at Stripe is derived from these."""

    def register(handler: Handler) -> Handler:
        for each in types:
            if each in HANDLERS:
                raise ValueError(f"{each} has two handlers")
            HANDLERS[each] = handler
        return handler

    return register


@handles(
    "customer.subscription.created",
    "customer.subscription.updated",
    "customer.subscription.deleted",
    "customer.subscription.paused",
    "customer.subscription.resumed",
    "customer.subscription.trial_will_end",
    "customer.subscription.pending_update_applied",
    "customer.subscription.pending_update_expired",
)
def follow_subscription(event: WebhookEvent, desk: Desk, trial: ledger.Trial) -> None:
    """Bring the owner's row to what Stripe shows now, whatever the event itself says."""
    sent = read_subscription(event.event["data"]["object"])
    try:
        owner = owner_of(sent, stripe=desk.stripe, plans=desk.plans)
    except OwnerDisputed as dispute:
        note_dispute(dispute, sent)
        raise
    if owner is None:
        ledger.settle(event, "ignored", trial)
        return
    event.organization = owner  # for the ledger, should what follows fail
    # The place of the apply rule: an event that is certainly newer than the row, and certainly not overtaken,
    # needs no request. Fetching is always right.
    follow(
        owner,
        stripe=desk.stripe,
        plans=desk.plans,
        now=desk.clock(),
        source=trial.source,
        seen=(sent.id,),
        seen_customers=(sent.customer,),
        also=lambda: ledger.settle(event, "applied", trial, organization=owner),
    )
