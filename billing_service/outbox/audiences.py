"""Who is told of what: the one table of signal names, with the words for people.

A name that is not here is told to nobody. Listeners in the process are told of every name that is.
"""

from dataclasses import dataclass

LISTENERS = "listeners"
# As in EVENT_WEBHOOK_URL and ALERT_WEBHOOK_URL.
BACKEND = "event"
PEOPLE = "alert"


@dataclass(frozen=True)
class Kind:
    """Who is told, and what has happened in words that say what to do next."""

    audiences: tuple[str, ...]
    words: str


KINDS: dict[str, Kind] = {
    "plan_changed": Kind((BACKEND,), "The plan of an organization changed."),
    "payment_failed": Kind((BACKEND,), "A payment failed; Stripe goes on trying as its settings say."),
    "subscription_expired": Kind((BACKEND,), "A subscription ended."),
    "dispute_opened": Kind((BACKEND, PEOPLE), "A customer disputes a payment. Answer it at Stripe before it is due."),
    "dispute_lost": Kind((BACKEND, PEOPLE), "A dispute was lost; the money is gone."),
    "dispute_reinstated": Kind(
        (BACKEND, PEOPLE),
        "The money of a dispute came back. If it had paid for extras, they stay debited until `next` is called.",
    ),
    "extras_refused": Kind(
        (PEOPLE,),
        "Money for prepaid extras moved, and nobody can say how many units that is: nothing was booked. See the reason "
        "in docs/runbooks/dead-letters.md, then replay.",
    ),
    "refund_unresolved": Kind(
        (PEOPLE,),
        "Nobody knows whether Stripe carried out a refund. Look at the charge at Stripe; repeat the same "
        "refundRequestId, take no new one.",
    ),
    "plan_unresolved": Kind(
        (PEOPLE,), "A live subscription has a price that stands for no plan. Add it to the file BILLING_PLANS names."
    ),
    "billing.reconciliation.divergence": Kind(
        (BACKEND, PEOPLE), "Stripe and the stored subscription differ. See GET /api/admin/billing/findings."
    ),
    "billing.reconciliation.summary": Kind(
        (PEOPLE,), "A reconciliation found more divergences than were told one by one. These are all of them."
    ),
    "missed_events": Kind(
        (PEOPLE,), "Stripe had events that never reached us; they were taken in now. Check the webhook endpoint."
    ),
    "missed_events_gap": Kind(
        (PEOPLE,), "Events may have been missed that Stripe does not list any more. Reconcile and sync what that finds."
    ),
    "weekly_reset_failed": Kind(
        (PEOPLE,),
        "Some organizations could not get their new week of usage; each is in the worker's log as "
        "organization_not_reset. They are tried again each day, or by billing-service jobs run weekly-reset.",
    ),
    "job_given_up": Kind((PEOPLE,), "A periodic job failed every time and was given up. See the worker's log."),
    "dispatch_paused": Kind(
        (PEOPLE,), "Webhook dispatch is paused and events wait. Resume it with billing-service dispatch resume."
    ),
    "events_waiting": Kind(
        (PEOPLE,), "Webhook events are due and nobody takes them up. See whether enough workers run."
    ),
    "dead_letters_growing": Kind(
        (PEOPLE,), "Many webhook events became dead letters in a short time. See docs/runbooks/dead-letters.md."
    ),
    "job_overdue": Kind(
        (PEOPLE,),
        "A periodic job is late: its time has passed and it has not ended well since. See "
        "docs/runbooks/job-did-not-run.md.",
    ),
    "stripe_unreachable": Kind(
        (PEOPLE,), "Stripe cannot be used; webhook events wait, nothing is lost. See docs/runbooks/stripe-is-down.md."
    ),
    "signals_failing": Kind(
        (PEOPLE,), "A receiver of signals has not accepted them for an hour. Look at its address, and at its own log."
    ),
    "recovered": Kind((PEOPLE,), "What people were told of is over."),
    "replay_batch_stopped": Kind(
        (PEOPLE,),
        "A batch of replays stopped by itself; what it had not begun is as it was. See docs/runbooks/dead-letters.md.",
    ),
    "refund_failed": Kind(
        (BACKEND, PEOPLE),
        "A refund that Stripe had accepted failed: the customer did not get the money. Refund another way.",
    ),
    "webhook_dead": Kind(
        (PEOPLE,), "A webhook event could not be handled and was parked. See GET /api/admin/billing/dead-letters."
    ),
}


def names_for(audience: str) -> list[str]:
    """The names that an audience is told of."""
    return [name for name, kind in KINDS.items() if audience in kind.audiences]
