"""Why something does not fit, where it can be shown; otherwise unknown, never a guess."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from ..documents import EPOCH, AdminAction, Unreceived, WebhookEvent
from ..stripe_gateway import shapes
from ..stripe_gateway.answers import UNREADABLE
from ..subscriptions.decision import DOUBT
from ..subscriptions.stored_row import StoredRow
from ..webhooks.handlers import HANDLERS
from .diagnosis import KIND_OF
from .holding import Hold
from .picture import Divergence, value_text

CAUSES = ("dead_letter", "handler_missing", "overwritten_by_admin", "never_received", "unknown")
LISTED = 1_000
OF_SUBSCRIPTIONS = ("customer.subscription.*",)


def cause_of(hold: Hold, divergence: Divergence, row: StoredRow | None) -> str:
    """The first cause that is shown; may ask Stripe for its events, once in a run."""
    if divergence.kind in ("overridden", "org_plan", "missing_in_stripe") or not divergence.subscriptions:
        return "unknown"
    since = row.as_of - DOUBT if row and row.as_of else EPOCH
    if _events(divergence, since, state="dead").first():
        return "dead_letter"
    if any(_tells(event.event, divergence) for event in _unhandled(divergence, since)):
        return "handler_missing"
    if row and _overwritten(divergence, row):
        return "overwritten_by_admin"
    listed = [each for each in _unreceived(hold) if each.subscription in divergence.subscriptions]
    if any(each.created >= since and _is_told(divergence, each.told) for each in listed):
        return "never_received"
    return "unknown"


def _events(divergence: Divergence, since: datetime, **more: Any) -> Any:
    return WebhookEvent.objects(stripe_subscription_id__in=list(divergence.subscriptions), created__gte=since, **more)


def _unhandled(divergence: Divergence, since: datetime) -> Iterable[WebhookEvent]:
    ignored = _events(divergence, since, state="succeeded", outcome="ignored")
    return ignored.filter(type__nin=sorted(HANDLERS), payload__ne=None).limit(20)


def _overwritten(divergence: Divergence, row: StoredRow) -> bool:
    """An admin's action after the newest event set a field that differs to what is stored."""
    newest = _events(divergence, EPOCH).only("created").order_by("-created").first()
    done = AdminAction.objects(organization=divergence.organization, phase="outcome", outcome="succeeded")
    done = done.filter(at__gt=newest.created if newest else EPOCH).order_by("-at").limit(20)
    return any(
        name in KIND_OF
        and action.before
        and action.before.get(name) != action.after.get(name)
        and action.after.get(name) == divergence.stored.get(name)
        for action in done
        if action.after
        for name in divergence.stored
    )


def _tells(event: dict[str, Any], divergence: Divergence) -> bool:
    return _is_told(divergence, told_by(event))


def _is_told(divergence: Divergence, told: Iterable[str]) -> bool:
    """Whether an event has the value that we lack; of what is no field any event of the subscription tells."""
    return not divergence.told or bool(divergence.told & set(told))


def told_by(event: dict[str, Any]) -> list[str]:
    """The fields of the subscription that an event carries, as evidence has them; none if it carries no other."""
    try:
        sent = shapes.subscription(event["data"]["object"])
    except UNREADABLE:
        return []
    told: dict[str, Any] = {
        name: getattr(sent, name)
        for name in ("status", "current_period_start", "current_period_end", "cancel_at_period_end", "cancel_at")
    }
    told["stripe_customer_id"] = sent.customer
    lines = [f"{name}={value_text(value)}" for name, value in told.items()]
    for item in sent.items:
        lines += [f"price_id={item.price_id}", f"quantity={item.quantity}"]
    return lines


def _unreceived(hold: Hold) -> list[Unreceived]:
    """Stripe's events of subscriptions that the ledger lacks, of the newest thousand; asked for once in a run."""
    if not hold.run.events_listed:
        listed, pages = _listed(hold)
        ids = [each["id"] for each in listed]
        known = {each.event_id for each in WebhookEvent.objects(event_id__in=ids).only("event_id")}
        lacking = [_described(each) for each in listed if each["id"] not in known]
        hold.commit(
            inc={"stripe_requests": pages},
            sets={"events_listed": True, "unreceived": [each.to_mongo() for each in lacking]},
        )
        hold.run.unreceived = lacking
    return list(hold.run.unreceived)


def _listed(hold: Hold) -> tuple[list[dict[str, Any]], int]:
    found: list[dict[str, Any]] = []
    pages, more = 0, True
    while more and len(found) < LISTED:
        hold.pulse()
        after = found[-1]["id"] if found else None
        page = hold.desk.stripe.events(created_gte=None, types=OF_SUBSCRIPTIONS, starting_after=after).value
        found += page["data"]
        more, pages = page["has_more"], pages + 1
    return found, pages


def _described(event: dict[str, Any]) -> Unreceived:
    subject = (event.get("data") or {}).get("object") or {}
    return Unreceived(
        event_id=event["id"],
        type=event.get("type"),
        created=shapes.at(event.get("created")),
        subscription=str(subject.get("id")),
        told=told_by(event),
    )
