"""What the comparison of both truths means, in a word and a sentence, and what can be done about it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..access import permissions_of
from ..documents import Organization, Subscription, WebhookEvent
from ..errors import BillingError
from ..plans import Plans
from ..stripe_gateway.shapes import LiveSubscription
from .comparison import Difference, Live, differences_of
from .observation import belongs
from .selection import choose, live_ones
from .statuses import ENDED, LIVE, holds

VERDICTS = (
    "stripe_unavailable",
    "customer_deleted",
    "missing_in_stripe",
    "missing_in_db",
    "several_live_subscriptions",
    "plan_unresolved",
    "diverged",
    "overridden",
    "not_billed",
    "in_sync",
)


@dataclass(frozen=True)
class Comparison:
    """The two truths compared. `live` is None when Stripe did not answer; `trouble` says why."""

    organization: Organization
    stored: Subscription | None
    live: Live | None
    chosen: LiveSubscription | None
    live_plan: str | None
    differences: tuple[Difference, ...]
    verdict: str
    explanation: str
    trouble: BillingError | None = None


def compare(
    organization: Organization,
    row: Subscription | None,
    live: Live | None,
    *,
    plans: Plans,
    now: datetime,
    trouble: BillingError | None = None,
    unsettled: WebhookEvent | None = None,
) -> Comparison:
    """Compare the row with what Stripe showed; `live` None means that Stripe did not answer.

    `unsettled` is the newest event of the organization that failed or is dead.
    """
    mine = [each for each in live.subscriptions if row and belongs(each, row)] if live else []
    chosen = choose(mine)
    live_plan = plans.resolve(chosen.items).plan if chosen else None
    differences = differences_of(organization, row, live, chosen, live_plan, plans, now)
    facts = _Facts(row, live, chosen, live_plan, live_ones(mine), differences, trouble, now, plans)
    verdict = next(name for name in VERDICTS if getattr(facts, name)())
    return Comparison(
        organization=organization,
        stored=row,
        live=live,
        chosen=chosen,
        live_plan=live_plan,
        differences=differences,
        verdict=verdict,
        explanation=facts.explain(verdict, str(organization.id)) + facts.besides(verdict) + _told(unsettled),
        trouble=trouble,
    )


def _told(event: WebhookEvent | None) -> str:
    if event is None:
        return ""
    why = f" ({event.reason})" if event.reason else ""
    return f" Event {event.event_id} ({event.type}) is {event.state}{why} and may be the cause."


@dataclass(frozen=True)
class _Facts:
    """What the verdicts are drawn from; each method is the verdict of its name."""

    row: Subscription | None
    live: Live | None
    chosen: LiveSubscription | None
    live_plan: str | None
    billed: tuple[LiveSubscription, ...]
    differences: tuple[Difference, ...]
    trouble: BillingError | None
    now: datetime
    plans: Plans

    def stripe_unavailable(self) -> bool:
        return self.live is None

    def customer_deleted(self) -> bool:
        return bool(self.live and self.live.customer and self.live.customer.deleted)

    def missing_in_stripe(self) -> bool:
        return bool(self.live and self.live.missing and not self.billed)

    def missing_in_db(self) -> bool:
        return bool(self.billed) and not (self.row and self.row.stripe_subscription_id)

    def several_live_subscriptions(self) -> bool:
        return len(self.billed) > 1

    def plan_unresolved(self) -> bool:
        return bool(self.chosen and self.chosen.status in LIVE and self.live_plan is None)

    def diverged(self) -> bool:
        return bool(self.differences)

    def overridden(self) -> bool:
        return bool(self.row and holds(self.row.override, self.now))

    def not_billed(self) -> bool:
        return not self.billed and not (self.row and self.row.status in LIVE)

    def in_sync(self) -> bool:
        return True

    def explain(self, verdict: str, org_id: str) -> str:
        """The verdict in a sentence, with the call that repairs it."""
        sync = f"Repair: POST /api/admin/billing/sync/{org_id}."
        own = self.row.stripe_subscription_id if self.row else None
        names = ", ".join(f"{each.id} ({each.status})" for each in self.billed)
        fields = ", ".join(each.field.replace("_", " ") for each in self.differences)
        stranger = next((each.live for each in self.differences if each.field == "organization"), None)
        sentences = {
            "stripe_unavailable": "Stripe did not answer, so only our side is shown; nothing is known to be wrong. "
            + (self.trouble.detail if self.trouble else "")
            + " Look again in a moment.",
            "customer_deleted": "The Stripe customer was deleted, which ended its subscriptions. "
            + (sync if self.differences else "Our side says so too; nothing is to be done."),
            "missing_in_stripe": f"Our row names {own}, which Stripe does not show. "
            + (
                f"The customer is there, so the subscription is gone. {sync}"
                if self.live and self.live.proven
                else "This key does not see the customer either: the key may be of another account or mode, so "
                "nothing is proven. Check STRIPE_SECRET_KEY before anything else."
            ),
            "missing_in_db": f"Stripe bills {names}, and our row has no subscription: paid but not granted. {sync}",
            "several_live_subscriptions": f"Stripe bills {len(self.billed)} subscriptions at once: {names}. "
            f"Repair: POST /api/admin/billing/cancel/{org_id} naming the unwanted one.",
            "plan_unresolved": "The price of the live subscription stands for no plan in the plan file. "
            "Repair: add the price to the file that BILLING_PLANS names, restart, then sync.",
            "diverged": f"Stripe's metadata of {own} names organization {stranger}. Repair: correct "
            "metadata.organizationId at Stripe, then sync; nothing is guessed."
            if stranger
            else f"{self._money()}Stripe and our row differ in {fields}. {sync}",
            "overridden": "Both sides agree; an admin's override decides the plan, whatever Stripe says: "
            + self._override(),
            "not_billed": "There is nothing live at Stripe and we grant nothing that is paid for: both sides agree.",
            "in_sync": "Stripe and our row agree.",
        }
        return sentences[verdict]

    def besides(self, verdict: str) -> str:
        """What else holds of an override, which another verdict hides."""
        return f" The plan is overridden: {self._override()}" if self.overridden() and verdict != "overridden" else ""

    def _override(self) -> str:
        override = self.row.override if self.row else None
        if override is None:
            return ""
        until = f"until {override.until:%Y-%m-%d %H:%M} UTC" if override.until else "until it is lifted"
        note = f" ({override.note})" if override.note else ""
        return f"{override.plan}, set by {override.actor or 'somebody'} {until}{note}." + self._short(override.plan)

    def _short(self, granted: str) -> str:
        paid = self.live_plan if self.billed else None
        less = paid and self.plans.rank(granted) < self.plans.rank(paid)
        return f" That is less than what Stripe bills: {paid}." if less else ""

    def _money(self) -> str:
        """The sentence that matters most: is it paid and not granted, or granted and not paid?"""
        plan = next((each for each in self.differences if each.field == "plan"), None)
        if plan is None:
            return ""
        if self.chosen is None:
            return f"Granted but not paid: Stripe has no subscription, and our row grants {plan.stored} by hand. "
        billed = f"Stripe has {self.chosen.id} as {self.chosen.status}"
        if plan.severity == "critical":
            return f"Paid but not granted: {billed}, which means {plan.live}; we grant {plan.stored}. "
        if plan.severity == "high":
            return f"Granted but not paid: {billed}; we still grant {plan.stored}. "
        return f"{billed}, which means {plan.live}; we grant {plan.stored}. "


ACTIONS = (
    ("sync", "sync:create"),
    ("link", "link:create"),
    ("cancel", "cancel:create"),
    ("bump", "plan:override"),
    ("refund", "refund:create"),
)


def actions(comparison: Comparison, roles: tuple[str, ...]) -> list[dict[str, Any]]:
    """What can be done now, and why not for the rest: name, permission, allowed, reason."""
    granted = permissions_of(roles)
    row, live = comparison.stored, comparison.live
    billed = [each for each in (live.subscriptions if live else ()) if each.status not in ENDED]
    looked = bool(row and (row.stripe_subscription_id or row.candidates or (live and live.subscriptions)))
    paid = any(each.amount_refundable for each in (live.payments if live else ()))
    down = "Stripe does not answer" if live is None else None
    unproven = (
        "the key cannot prove that the subscription is gone" if live and live.missing and not live.proven else None
    )
    blocked: dict[str, str | None] = {
        "bump": None,
        "sync": None
        if row is None
        else down or unproven or (None if looked else "there is no Stripe subscription to look at"),
        "link": down,
        "refund": down or (None if paid else "nothing of the last payments is left to refund"),
        "cancel": down or unproven or (None if billed else "nothing at Stripe is left to cancel"),
    }
    if row is None:
        blocked["sync"] = blocked["cancel"] = blocked["refund"] = (
            "the organization has no row; link a subscription first"
        )
    listed = []
    for name, permission in ACTIONS:
        reason = blocked[name] if permission in granted else f"your role lacks {permission}"
        listed.append({"name": name, "permission": permission, "allowed": reason is None, "reason": reason})
    return listed
