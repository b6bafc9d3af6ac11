"""The one way a subscription row is written: read, look, decide, compare-and-set, or start over.

Webhooks, sync, link, cancel, overrides and jobs all come through here. Correctness rests on the version that
was read before Stripe was asked; leases elsewhere only save work.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from bson import ObjectId
from mongoengine import Q
from mongoengine.errors import NotUniqueError
from pymongo import InsertOne, UpdateOne
from pymongo.errors import BulkWriteError, DuplicateKeyError

from .. import outbox
from ..documents import (
    Finding,
    Organization,
    OutboxSignal,
    Override,
    Subscription,
    UsageWeek,
    WebhookEvent,
    in_transaction,
)
from ..documents.finding import OPEN_STATES, resolved
from ..errors import Conflict, CustomerShared
from ..plans import Plans
from .decision import DOUBT, Change, Noticed, decide
from .observation import Observation

TRIES = 8
DUPLICATE_KEY = 11000
# About the chosen subscription's price: any look at it tells.
ABOUT_THE_PRICE = ("plan_unresolved", "plan_ambiguous")
# A row that was just written from all that Stripe shows cannot differ from it.
OF_THE_ROW = (
    "several_live_subscriptions",
    "missing_in_db",
    "canceled_here_live_there",
    "missing_in_stripe",
    "status",
    "plan",
    "price",
    "period",
    "cancel_intent",
    "customer",
    "org_plan",
)

Look = Callable[[Subscription], Observation | None]
Also = Callable[[Change], None]


class LostRace(Exception):
    """Another writer was first; what was read is thrown away."""


def converge(
    org_id: ObjectId,
    look: Look,
    *,
    plans: Plans,
    now: datetime,
    source: str,
    also: Also | None = None,
    dry_run: bool = False,
    strict_plan: bool = False,
    overdue_since: datetime | None = None,
    imposed: Callable[[Subscription], Mapping[str, Any]] | None = None,
) -> Change:
    """Bring the organization's row to what `look` shows; `also` runs in the same transaction.

    Makes the row when there is none. `imposed` is what an admin decides of the row as it is, Stripe aside. `look`
    may be called several times and may raise any refusal; then nothing is written. Raises CustomerShared when
    Stripe's customer or subscription belongs to another organization's row, Conflict when other writers were first
    every time.
    """
    for attempt in range(TRIES):
        row = stored_row(org_id) or Subscription(organization=org_id, plan=plans.free, version=0)
        seen = look(row)
        if not (_is_stale(row, seen) and attempt < TRIES - 1):
            change = decide(
                row,
                seen,
                plans=plans,
                now=now,
                source=source,
                newest_created=newest_event_of(seen.ids) if seen else None,
                strict_plan=strict_plan,
                overdue_since=overdue_since,
                imposed=imposed(row) if imposed else None,
            )
            refuse_shared(change)
            if dry_run:
                return change
            try:
                commit(change, now=now, also=also)
                return change
            except LostRace:
                pass
        time.sleep(0.01 * 2**attempt)
    raise Conflict(
        f"The subscription of {org_id} was changed by others {TRIES} times while this ran. Nothing was written. "
        "Try again.",
        retry_after=2,
    )


def newest_event_of(subscription_ids: Collection[str]) -> datetime | None:
    """When the newest event of the subscriptions that we know of was created, by Stripe's clock."""
    known = WebhookEvent.objects(stripe_subscription_id__in=sorted(subscription_ids))
    newest = known.only("created").order_by("-created").first()
    return newest.created if newest else None


def stored_row(org_id: ObjectId) -> Subscription | None:
    """The organization's row, or None."""
    return Subscription.objects(organization=org_id).first()


def _is_stale(row: Subscription, seen: Observation | None) -> bool:
    """A look older than the row by more than the doubt shows what was, not what is."""
    if seen is None or seen.chosen is None or seen.as_of is None or row.as_of is None:
        return False
    return seen.chosen.id == row.stripe_subscription_id and row.as_of - seen.as_of > DOUBT


def refuse_shared(change: Change) -> None:
    """Raise CustomerShared when another organization's row holds the customer or the subscription."""
    ids = {
        name: change.updated[name]
        for name in ("stripe_customer_id", "stripe_subscription_id")
        if change.updated[name] and change.updated[name] != getattr(change.row, name)
    }
    for name, value in ids.items():
        other = holder_of(name, value, but=change.organization)
        if other:
            raise CustomerShared(
                f"{value} belongs to organization {other.organization}. One Stripe customer serves one organization "
                "here. Nothing was written.",
                organizationId=str(other.organization),
                stripeId=value,
            )


def holder_of(name: str, value: str, *, but: ObjectId) -> Subscription | None:
    """Another organization's row with this Stripe id, be it only as that of a candidate."""
    others = Q(**{name: value}) | Q(**{f"candidates__{name}": value})
    return Subscription.objects(others, organization__ne=but).only("organization").first()


def commit(change: Change, *, now: datetime, also: Also | None = None) -> None:
    """Write one decision; `also` runs in the same transaction. Raises LostRace."""
    commit_all([change], now=now, also=(lambda: also(change)) if also else None)


def commit_all(changes: Sequence[Change], *, now: datetime, also: Callable[[], None] | None = None) -> None:
    """Write rows, the organizations' plans and quotas, signals and findings, all or none; raises LostRace.

    Of several changes each must be of another organization. The number of round trips does not grow with them,
    but for what is noticed.
    """

    def write() -> None:
        ids = _write_rows(changes)
        _write_quotas(changes, _write_plans(changes), now)
        signals = [each for change, row_id in zip(changes, ids, strict=True) for each in _signals(change, row_id, now)]
        if signals:
            OutboxSignal.objects.insert(signals, load_bulk=False)
        for change in changes:
            for noticed in change.noticed:
                _note(change, noticed, now)
            if change.complete:
                _settle_findings(change, now)
        _settle_prices(changes, now)
        if also:
            also()

    try:
        in_transaction(write)
    except (DuplicateKeyError, NotUniqueError) as error:
        raise LostRace from error
    except BulkWriteError as error:
        if all(each["code"] == DUPLICATE_KEY for each in error.details["writeErrors"]):
            raise LostRace from error
        raise


def _write_rows(changes: Sequence[Change]) -> list[ObjectId]:
    """The ids of the rows, each written under the version that was read. Raises LostRace."""
    ids = [change.row.pk or ObjectId() for change in changes]
    writes: list[InsertOne | UpdateOne] = []
    for change, row_id in zip(changes, ids, strict=True):
        if change.row.pk is None:
            fresh = Subscription(id=row_id, organization=change.organization, version=1, **change.values)
            writes.append(InsertOne(fresh.to_mongo().to_dict()))
        else:
            values = {name: _stored(value) for name, value in change.values.items()}
            held = {"_id": row_id, "version": change.row.version}
            writes.append(UpdateOne(held, {"$set": values, "$inc": {"version": 1}}))
    done = Subscription._get_collection().bulk_write(writes)
    if done.matched_count + done.inserted_count != len(writes):
        raise LostRace
    return ids


def _stored(value: Any) -> Any:
    if isinstance(value, list):
        return [each.to_mongo() for each in value]
    return value.to_mongo() if isinstance(value, Override) else value


def _write_plans(changes: Sequence[Change]) -> int:
    """How many organizations had another plan."""
    plans = [(change.organization, change.updated["plan"]) for change in changes]
    writes = [UpdateOne({"_id": each, "plan": {"$ne": plan}}, {"$set": {"plan": plan}}) for each, plan in plans]
    return Organization._get_collection().bulk_write(writes, ordered=False).modified_count


def _write_quotas(changes: Sequence[Change], moved: int, now: datetime) -> None:
    """With another plan the current week has another quota; what was used of it stays.

    Most events change no plan: then nothing is written.
    """
    changed = [change for change in changes if change.row.plan != change.updated["plan"]]
    # If more organizations had another plan than rows, they had not been alike; no week's quota is relied on then.
    told = changes if moved > len(changed) else changed
    if told:
        writes = [UsageWeek.quota_write(change.organization, change.quota, now) for change in told]
        UsageWeek._get_collection().bulk_write([UpdateOne(*each, upsert=True) for each in writes], ordered=False)


def _signals(change: Change, row_id: ObjectId, now: datetime) -> list[OutboxSignal]:
    version = change.updated["version"]
    return [
        outbox.signal(
            signal.name,
            f"{row_id}:{version}:{signal.name}",
            now=now,
            organization=change.organization,
            facts=signal.facts,
            subscription=row_id,
            version=version,
        )
        for signal in change.signals
    ]


def _fingerprint(change: Change, noticed: Noticed) -> str:
    return ":".join((noticed.kind, str(change.organization), *sorted(noticed.stripe_subscription_ids)))


def _note(change: Change, noticed: Noticed, now: datetime) -> None:
    fingerprint = _fingerprint(change, noticed)
    seen: dict[str, Any] = {"set__last_seen_at": now, "inc__times_seen": 1, "set__live": noticed.live}
    if Finding.objects(fingerprint=fingerprint, state__in=OPEN_STATES).update_one(**seen):
        return
    Finding(
        fingerprint=fingerprint,
        kind=noticed.kind,
        severity=noticed.severity,
        organization=change.organization,
        stripe_customer_id=change.updated["stripe_customer_id"],
        stripe_subscription_ids=list(noticed.stripe_subscription_ids),
        live=noticed.live,
        first_seen_at=now,
        last_seen_at=now,
        state="open",
    ).save(force_insert=True)


def _settle_findings(change: Change, now: datetime) -> None:
    """What a complete look no longer shows is resolved by it."""
    ours = _open_findings([change])
    ours.filter(kind__in=OF_THE_ROW).update(**resolved(change.updated["synced_from"], now))
    ours.filter(kind="cancel_unverified", stripe_subscription_ids__in=list(change.ended)).update(
        **resolved(change.updated["synced_from"], now)
    )
    # A conflict about a subscription that this look did not show goes on.
    shown = {"stripe_subscription_ids": {"$not": {"$elemMatch": {"$nin": sorted(change.shown)}}}}
    ours.filter(kind="organization_conflict", stripe_subscription_ids__ne=[], __raw__=shown).update(
        **resolved(change.updated["synced_from"], now)
    )


def _settle_prices(changes: Sequence[Change], now: datetime) -> None:
    """A subscription whose price is read again has no finding about it; one round trip for all."""
    told = [change for change in changes if change.priced]
    if told:
        source = told[0].updated["synced_from"]
        _open_findings(told).filter(kind__in=ABOUT_THE_PRICE).update(**resolved(source, now))


def _open_findings(changes: Sequence[Change]) -> Any:
    """The findings of these organizations that are open and were not noticed again."""
    still = [_fingerprint(change, noticed) for change in changes for noticed in change.noticed]
    organizations = [change.organization for change in changes]
    return Finding.objects(organization__in=organizations, state__in=OPEN_STATES, fingerprint__nin=still)
