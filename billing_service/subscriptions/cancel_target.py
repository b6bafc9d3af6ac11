"""What a cancel is about: the subscription that was meant, found by live reads, or a named refusal."""

from dataclasses import dataclass

from ..documents import Subscription
from ..errors import (
    ManagedBySchedule,
    MissingUnproven,
    NoStripeSubscription,
    OrganizationConflict,
    SeveralLive,
    StripeMissing,
)
from ..stripe_gateway import LiveSubscription, StripeGateway
from .observation import Observation, observe
from .statuses import ENDED
from .synchronization import refuse_foreign


@dataclass(frozen=True)
class Wanted:
    """What the admin asked for; `mode` is now or period_end."""

    mode: str
    subscription_id: str | None = None
    prorate: bool = False
    invoice_now: bool = False

    def reached(self, live: LiveSubscription) -> bool:
        """Whether Stripe shows the wanted state. `cancel_at` and `cancel_at_period_end` are one intent."""
        if live.status in ENDED:
            return True
        if self.mode == "now":
            return False
        end = live.current_period_end
        return live.cancel_at_period_end or bool(live.cancel_at and end and live.cancel_at <= end)


@dataclass(frozen=True)
class Target:
    """What a cancel is about. `live` None: it is gone, and that is proven; `id` None: there never was one."""

    id: str | None
    live: LiveSubscription | None

    @property
    def is_over(self) -> bool:
        return self.live is None or self.live.status in ENDED


def find_target(row: Subscription, wanted: Wanted, stripe: StripeGateway, remembered: str | None) -> Target:
    """The subscription to cancel, from live reads; `remembered` was this operation's target before."""
    seen = observe(stripe, row, named=(wanted.subscription_id,) if wanted.subscription_id else ())
    return target_of(row, wanted, seen, stripe, remembered)


def target_of(
    row: Subscription, wanted: Wanted, seen: Observation, stripe: StripeGateway, remembered: str | None
) -> Target:
    named = wanted.subscription_id
    target = _named(row, named, seen, stripe, remembered) if named else _only(row, seen)
    if target.live is not None and not target.is_over and target.live.schedule:
        raise ManagedBySchedule(
            f"{target.id} is managed by {target.live.schedule}; Stripe would refuse or undo the change. Nothing was "
            "written. Release or cancel the schedule at Stripe, then repeat.",
            schedule=target.live.schedule,
        )
    return target


def _named(
    row: Subscription, subscription_id: str, seen: Observation, stripe: StripeGateway, remembered: str | None
) -> Target:
    found = next((each for each in (*seen.found, *seen.conflicting) if each.id == subscription_id), None)
    if found is None:
        ours = {row.stripe_subscription_id, remembered, *(each.stripe_subscription_id for each in row.candidates)}
        if subscription_id not in ours:
            raise StripeMissing(
                f"Stripe does not know {subscription_id} with this key, and nothing here names it. Nothing was "
                "cancelled or written. Look at GET /customer for the ids."
            )
        prove_gone(row, subscription_id, stripe)
        return Target(subscription_id, None)
    refuse_foreign(row.organization, found, stripe)
    if subscription_id == remembered:
        return Target(found.id, found)  # it was tied to the organization when it was asked for; its end unties it
    known = {row.stripe_customer_id, *(each.stripe_customer_id for each in row.candidates)}
    if found.customer not in known and found.metadata.get("organizationId") != str(row.organization):
        raise OrganizationConflict(
            f"{subscription_id} is of customer {found.customer}, which nothing ties to organization "
            f"{row.organization}. Nothing was written. If it is theirs, link it first."
        )
    return Target(found.id, found)


def prove_gone(row: Subscription, subscription_id: str, stripe: StripeGateway) -> None:
    """A missing subscription is gone only if this key sees the row's customer (promise P4)."""
    try:
        if row.stripe_customer_id:
            stripe.customer(row.stripe_customer_id)
            return
    except StripeMissing:
        pass
    raise MissingUnproven(
        f"Stripe does not show {subscription_id} and this key does not see the organization's customer either. "
        "Nothing was written. Check STRIPE_SECRET_KEY."
    )


def _only(row: Subscription, seen: Observation) -> Target:
    # One that is unpaid or paused has not ended: an admin who cancels wants that one gone as well.
    for among in (seen.live, tuple(each for each in seen.found if each.status not in ENDED)):
        if len(among) > 1:
            raise SeveralLive(
                f"Organization {row.organization} has {len(among)} subscriptions that have not ended. Nothing was "
                "written. Name the one to cancel in stripeSubscriptionId.",
                subscriptions=[{"id": each.id, "status": each.status} for each in among],
            )
        if among:
            return Target(among[0].id, among[0])
    foreign = next((each for each in seen.conflicting if each.status not in ENDED), None)
    if foreign:
        raise OrganizationConflict(
            f"Stripe's metadata of {foreign.id} names organization {foreign.metadata['organizationId']}, so it is not "
            "cancelled from here. Nothing was written. Correct metadata.organizationId at Stripe first.",
            organizationId=foreign.metadata["organizationId"],
        )
    if seen.chosen is None and not seen.gone and not row.stripe_customer_id:
        raise NoStripeSubscription(
            f"Organization {row.organization} has neither a subscription nor a customer at Stripe to look at."
        )
    return Target(seen.chosen.id, seen.chosen) if seen.chosen else Target(row.stripe_subscription_id, None)
