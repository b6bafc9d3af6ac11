"""One organization: see both truths, sync, link, cancel."""

from dataclasses import asdict
from typing import Any

from bson import ObjectId
from flask import g

from ... import subscriptions
from ...documents import AdminAction, Finding, WebhookEvent
from ...errors import BillingError
from ...jobs import wakeups
from ...operations import Outcome, Running
from ...runtime import runtime
from ..guard import requires
from ..wire import DryRunQuery, MutationHeaders, NoteBody, Wire
from . import blueprint
from .mutations import mutate
from .schemas import CancelBody, CancelSchema, CustomerSchema, LinkBody, SyncSchema

SHOWN = 10


@blueprint.get("/customer/<org_id:orgId>")
@blueprint.arguments(Wire, location="query")
@blueprint.response(200, CustomerSchema)
@requires("customer:read")
def show_customer(query: dict, org_id: ObjectId) -> dict[str, Any]:
    """Show what is stored and what Stripe shows, side by side, with the difference and the next step."""
    organization = subscriptions.require_organization(org_id)
    row = subscriptions.stored_row(org_id)
    live, trouble = None, None
    try:
        live = subscriptions.read_live(runtime.stripe, row)
    except BillingError as refusal:
        trouble = refusal
    arrived = WebhookEvent.objects(organization=org_id).exclude("payload").order_by("-received_at", "-id")
    events = list(arrived.limit(SHOWN))
    unsettled = WebhookEvent.objects(organization=org_id, state__in=("dead", "failed")).exclude("payload")
    compared = subscriptions.compare(
        organization,
        row,
        live,
        plans=runtime.plans,
        now=runtime.clock(),
        trouble=trouble,
        unsettled=unsettled.order_by("-created").first(),
    )
    return _shown(compared) | {
        "recent_events": events,
        "open_findings": Finding.objects(organization=org_id, state__in=("open", "acknowledged"))
        .order_by("-last_seen_at")
        .limit(SHOWN),
        "audit": AdminAction.objects(organization=org_id).order_by("-at", "-id").limit(SHOWN),
        "actions": subscriptions.actions(compared, g.identity.roles),
    }


def _shown(compared: subscriptions.Comparison) -> dict[str, Any]:
    return {
        "organization": compared.organization,
        "stored": compared.stored.describe() if compared.stored else None,
        "live": _live(compared.live) if compared.live else None,
        "differences": compared.differences,
        "verdict": compared.verdict,
        "explanation": compared.explanation,
    }


def _live(live: subscriptions.Live) -> dict[str, Any]:
    return {
        "customer": live.customer,
        "subscriptions": [_live_subscription(each) for each in live.subscriptions],
        "payments": live.payments,
    }


def _live_subscription(live: Any) -> dict[str, Any]:
    resolution = runtime.plans.resolve(live.items)
    item = next((each for each in live.items if each.price_id == resolution.price_id), None)
    priced = asdict(item) if item else {}
    names = ("price_id", "quantity", "unit_amount", "currency", "interval")
    plain = {name: getattr(live, name) for name in live.__dataclass_fields__ if name not in ("items", "present")}
    return plain | {name: priced.get(name) for name in names} | {"plan": resolution.plan}


@blueprint.post("/sync/<org_id:orgId>")
@blueprint.arguments(MutationHeaders, location="headers")
@blueprint.arguments(DryRunQuery, location="query")
@blueprint.arguments(NoteBody, required=False)
@blueprint.response(200, SyncSchema)
@requires("sync:create")
def sync(headers: dict, query: dict, body: dict, org_id: ObjectId) -> Any:
    """Bring the stored subscription to Stripe's state."""
    asked: dict[str, Any] = {"stripe": runtime.stripe, "plans": runtime.plans, "now": runtime.clock()}

    def work(running: Running) -> Outcome:
        return subscriptions.change_outcome(
            subscriptions.sync(
                org_id, also=lambda change: running.complete(subscriptions.change_outcome(change)), **asked
            )
        )

    return mutate(
        "sync",
        org_id,
        headers | query,
        body,
        foretell=lambda: subscriptions.change_outcome(subscriptions.sync(org_id, dry_run=True, **asked)),
        work=work,
    )


@blueprint.post("/link/<org_id:orgId>")
@blueprint.arguments(MutationHeaders, location="headers")
@blueprint.arguments(DryRunQuery, location="query")
@blueprint.arguments(LinkBody)
@blueprint.response(200, SyncSchema)
@requires("link:create")
def link(headers: dict, query: dict, body: dict, org_id: ObjectId) -> Any:
    """Attach a Stripe subscription to the organization, then sync it."""
    asked: dict[str, Any] = {"stripe": runtime.stripe, "plans": runtime.plans, "now": runtime.clock()}
    named = body["stripe_subscription_id"]

    def work(running: Running) -> Outcome:
        also = lambda change: running.complete(subscriptions.change_outcome(change))
        return subscriptions.change_outcome(subscriptions.link(org_id, named, also=also, **asked))

    answer = mutate(
        "link",
        org_id,
        headers | query,
        body,
        foretell=lambda: subscriptions.change_outcome(subscriptions.link(org_id, named, dry_run=True, **asked)),
        work=work,
    )
    if not query["dry_run"]:
        wakeups.wake_attached(org_id)
    return answer


@blueprint.post("/cancel/<org_id:orgId>")
@blueprint.arguments(MutationHeaders, location="headers")
@blueprint.arguments(DryRunQuery, location="query")
@blueprint.arguments(CancelBody, required=False)
@blueprint.response(200, CancelSchema)
@requires("cancel:create")
def cancel(headers: dict, query: dict, body: dict, org_id: ObjectId) -> Any:
    """Cancel at Stripe, verify it there, then write the stored subscription."""
    wanted = subscriptions.Wanted(
        mode=body["mode"],
        subscription_id=body.get("stripe_subscription_id"),
        prorate=body["prorate"],
        invoice_now=body["invoice_now"],
    )
    asked: dict[str, Any] = {"stripe": runtime.stripe, "plans": runtime.plans, "now": runtime.clock()}
    seconds = runtime.settings.cancel_verify_seconds

    def work(running: Running) -> Outcome:
        cancelled = subscriptions.cancel(org_id, wanted, running=running, verify_seconds=seconds, **asked)
        return subscriptions.outcome_of(cancelled)

    return mutate(
        "cancel",
        org_id,
        headers | query,
        body,
        foretell=lambda: subscriptions.outcome_of(subscriptions.foretell(org_id, wanted, **asked)),
        work=work,
    )
