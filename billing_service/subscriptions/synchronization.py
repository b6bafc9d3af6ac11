"""Bringing rows to Stripe's state: sync, link, what webhooks and the clock ask for."""

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta

from bson import ObjectId

from ..documents import EPOCH, STORE_ERRORS, Organization, Subscription
from ..errors import (
    BillingError,
    CustomerShared,
    NoStripeSubscription,
    NotLive,
    OrganizationConflict,
    OrganizationNotFound,
    SeveralLive,
    StripeCircuitOpen,
    StripeMisconfigured,
    StripeMissing,
    StripeNotConfigured,
    StripeRateLimited,
    StripeUnavailable,
    SubscriptionNotFound,
)
from ..observability import log
from ..operations import Outcome
from ..plans import Plans
from ..stripe_gateway import StripeGateway
from ..stripe_gateway.shapes import LiveSubscription, Read
from .convergence import Also, converge, holder_of, stored_row
from .decision import Change
from .observation import Observation, observe
from .statuses import ENDED, LIVE

VERIFY_BATCH = 100
OF_STRIPE = (
    StripeCircuitOpen,
    StripeMisconfigured,
    StripeNotConfigured,
    StripeRateLimited,
    StripeUnavailable,
)


def require_organization(org_id: ObjectId) -> Organization:
    """The organization; raises OrganizationNotFound."""
    organization = Organization.objects(id=org_id).first()
    if organization is None:
        raise OrganizationNotFound(
            f"There is no organization {org_id}. Tell of it by PUT /api/billing/organizations/{org_id}."
        )
    return organization


def require_row(org_id: ObjectId) -> Subscription:
    """The organization's row; raises SubscriptionNotFound or OrganizationNotFound."""
    row = stored_row(org_id)
    if row is None:
        require_organization(org_id)
        raise SubscriptionNotFound(
            f"Organization {org_id} has no subscription row. If it pays at Stripe, link its subscription: "
            f"POST /api/admin/billing/link/{org_id}."
        )
    return row


def sync(
    org_id: ObjectId,
    *,
    stripe: StripeGateway,
    plans: Plans,
    now: datetime,
    also: Also | None = None,
    dry_run: bool = False,
    source: str = "sync",
) -> Change:
    """Stripe to DB. Refuses with SubscriptionNotFound, NoStripeSubscription, PlanUnresolved, MissingUnproven."""
    require_row(org_id)

    def look(row: Subscription) -> Observation:
        seen = observe(stripe, row)
        if seen.chosen is None and seen.conflicting:
            foreign = seen.conflicting[0]
            raise OrganizationConflict(
                f"Stripe's metadata of {foreign.id} names organization {foreign.metadata['organizationId']}. Nothing "
                "was written. If that is wrong, correct metadata.organizationId at Stripe, then sync.",
                organizationId=foreign.metadata["organizationId"],
            )
        if seen.chosen is None and not seen.gone:
            raise NoStripeSubscription(
                f"Organization {org_id} has no subscription at Stripe to look at: the row names none and its customer "
                "has none. Nothing was written. If it pays with another customer, link that subscription."
            )
        return seen

    return converge(org_id, look, plans=plans, now=now, source=source, also=also, dry_run=dry_run, strict_plan=True)


def link(
    org_id: ObjectId,
    subscription_id: str,
    *,
    stripe: StripeGateway,
    plans: Plans,
    now: datetime,
    also: Also | None = None,
    dry_run: bool = False,
) -> Change:
    """Attach a subscription to the organization, then sync.

    Refuses with StripeMissing, CustomerShared, OrganizationConflict, SeveralLive, NotLive, PlanUnresolved.
    """
    require_organization(org_id)

    def look(row: Subscription) -> Observation:
        read = stripe.subscription(subscription_id)
        refuse_foreign(org_id, read.value, stripe)
        seen = observe(stripe, row, named=(subscription_id,), customers=(read.value.customer,), known=(read,))
        _refuse_unlinkable(row, read, seen)
        return seen

    return converge(org_id, look, plans=plans, now=now, source="link", also=also, dry_run=dry_run, strict_plan=True)


def refuse_foreign(org_id: ObjectId, found: LiveSubscription, stripe: StripeGateway) -> None:
    """Raise CustomerShared or OrganizationConflict when the subscription is another organization's."""
    for name, value in (("stripe_subscription_id", found.id), ("stripe_customer_id", found.customer)):
        other = holder_of(name, value, but=org_id)
        if other:
            raise CustomerShared(
                f"{value} belongs to organization {other.organization}. Nothing was written.",
                organizationId=str(other.organization),
                stripeId=value,
            )
    named = found.metadata.get("organizationId") or _named_by_customer(found.customer, stripe)
    if named and named.lower() != str(org_id):
        raise OrganizationConflict(
            f"Stripe's metadata of {found.id} or its customer names organization {named}. Nothing was written. "
            "If that is wrong, correct metadata.organizationId at Stripe first.",
            organizationId=named,
        )


def _named_by_customer(customer_id: str, stripe: StripeGateway) -> str | None:
    try:
        return stripe.customer(customer_id).value.metadata.get("organizationId")
    except StripeMissing:
        return None


def _refuse_unlinkable(row: Subscription, read: Read[LiveSubscription], seen: Observation) -> None:
    wanted = read.value
    others = [each for each in seen.live if each.id != wanted.id]
    if others:
        raise SeveralLive(
            f"Organization {row.organization} is billed by {', '.join(each.id for each in others)} already. Nothing "
            "was written. Cancel the one that is not wanted, then link.",
            subscriptions=[{"id": each.id, "status": each.status} for each in (*others, wanted)],
        )
    if wanted.status not in LIVE and row.stripe_subscription_id not in (None, wanted.id):
        raise NotLive(
            f"{wanted.id} is {wanted.status}, and the organization already has {row.stripe_subscription_id}. "
            "Nothing was written."
        )


def follow(
    org_id: ObjectId,
    *,
    stripe: StripeGateway,
    plans: Plans,
    now: datetime,
    source: str,
    seen: Iterable[str] = (),
    seen_customers: Iterable[str] = (),
    deleted_customers: Collection[str] = (),
    failed_at: datetime | None = None,
    also: Also | None = None,
    dry_run: bool = False,
) -> Change:
    """Bring the row to Stripe's state because of events; `also` settles them in the same transaction.

    `seen` and `seen_customers` are what the events name, `deleted_customers` those that one says are deleted,
    `failed_at` when one says that a payment failed. Never downgrades because something is missing: then it
    raises StripeMissing and nothing is written, unless Stripe proves that the row's customer was deleted.
    """
    named, customers = tuple(seen), tuple(seen_customers)

    def look(row: Subscription) -> Observation:
        observed = observe(
            stripe,
            row,
            named=named,
            customers=tuple(each for each in customers if each != row.stripe_customer_id),
            complete=bool(deleted_customers),
            deleted=deleted_customers,
            failed_at=failed_at,
        )
        nothing = observed.gone or observed.chosen is None
        if nothing and deleted_customers and observed.customer_deleted:
            nothing = False
        # One that is named and not shown may be the one that the organization pays for: its read lags.
        in_doubt = row.verify_at is not None and now < row.verify_at
        asked_for = {*named, *(each.stripe_subscription_id for each in row.candidates if in_doubt)}
        hidden = asked_for & set(observed.unseen) - {row.stripe_subscription_id}
        if not observed.live and (nothing or hidden):
            raise StripeMissing(
                f"Stripe shows no subscription of organization {org_id} ({', '.join(named) or 'none named'}). "
                "Nothing was written. Look with GET /customer and repair with sync."
            )
        return observed

    return converge(org_id, look, plans=plans, now=now, source=source, also=also, dry_run=dry_run)


def verify_due(*, stripe: StripeGateway, plans: Plans, now: datetime) -> int:
    """Look once more at rows whose last look may have lagged behind an event; returns how many were done."""
    due = Subscription.objects(verify_at__gt=EPOCH, verify_at__lte=now)
    done = 0
    for row in due.only("organization", "verify_at", "status").order_by("verify_at").limit(VERIFY_BATCH):
        try:
            follow(row.organization, stripe=stripe, plans=plans, now=now, source="verify")
            done += 1
        except (*OF_STRIPE, *STORE_ERRORS):
            raise  # it is Stripe, the key or the store, not this row
        except Exception as error:
            # One row that cannot be looked at must not hold up the others.
            tell_of("verify_postponed", row, error)
            # What has ended and is still not shown is gone: this was the second look.
            over = isinstance(error, StripeMissing) and row.status in ENDED
            Subscription.objects(id=row.pk, verify_at=row.verify_at).update_one(
                set__verify_at=None if over else now + timedelta(hours=1)
            )
    return done


def tell_of(what: str, row: Subscription, error: Exception) -> None:
    """Log what became of a row: a refusal by its code, a bug with its traceback."""
    if isinstance(error, BillingError):
        log.warning(what, organization=str(row.organization), code=error.code)
    else:
        log.error(what, organization=str(row.organization), exc_info=error)


def next_verify_at() -> datetime | None:
    """When the next row is due to be looked at once more; None if none waits for it."""
    return Subscription.objects(verify_at__gt=EPOCH).order_by("verify_at").scalar("verify_at").first()


def lift_expired_overrides(*, plans: Plans, now: datetime) -> int:
    """End overrides whose time has passed; returns how many."""
    rows = (
        Subscription.objects(override__until__gt=EPOCH, override__until__lte=now)
        .only("organization")
        .limit(VERIFY_BATCH)
    )
    lifted = 0
    for row in rows:
        try:
            converge(row.organization, lambda _: None, plans=plans, now=now, source="bump")
            lifted += 1
        except STORE_ERRORS:
            raise
        except Exception as error:
            tell_of("override_not_lifted", row, error)
    return lifted


def change_outcome(change: Change) -> Outcome:
    """The answer of endpoint 4.2: status, plan, previous, updated, changed."""
    answer = {
        "status": change.updated["status"],
        "plan": change.updated["plan"],
        "previous": change.previous,
        "updated": change.updated,
        "changed": change.changed,
    }
    return Outcome(answer=answer, before=change.previous, after=change.updated)
