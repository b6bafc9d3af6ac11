"""Repairing: sync, of one organization or of many, and link."""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import click
from flask import Flask

from .group import cli, say, with_app
from .terminal import note, refusals_told


def _organization_id(context: click.Context, parameter: click.Parameter, value: str | None) -> Any:
    from bson import ObjectId

    if value is None:
        return None
    if len(value) != 24 or not ObjectId.is_valid(value):
        raise click.BadParameter("an organization id has 24 hexadecimal characters")
    return ObjectId(value)


def repair(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a command that repairs one organization."""
    for option in (
        click.argument("org_id", callback=_organization_id),
        click.option("--dry-run", is_flag=True, help="write nothing, tell what would change"),
        click.option("--note", callback=note, help="why; kept in the audit log"),
        click.option("--actor", default="cli", show_default=True, help="who the audit log names"),
        click.option("--json", "as_json", is_flag=True),
    ):
        command = option(command)
    return command


def _finding_kind(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    from ..reconciliation.diagnosis import KINDS

    # Others notice these; a typo must not select nothing.
    known = sorted({*KINDS, "cancel_unverified", "customer_shared", "plan_ambiguous"})
    if value is not None and value not in known:
        raise click.BadParameter(f"there is no such kind; there are {', '.join(known)}")
    return value


def _status(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    from ..subscriptions.statuses import ENDED, LIVE, SUSPENDED

    if value is not None and value not in LIVE | ENDED | SUSPENDED:
        raise click.BadParameter(f"there is no such status; there are {', '.join(sorted(LIVE | ENDED | SUSPENDED))}")
    return value


@cli.command()
@click.argument("org_id", callback=_organization_id, required=False)
@click.option("--dry-run", is_flag=True, help="of one organization: write nothing, tell what would change")
@click.option("--finding-kind", callback=_finding_kind, help="all with an open or acknowledged finding of this kind")
@click.option("--status", callback=_status, help="all whose rows have this status")
@click.option("--apply", "apply", is_flag=True, help="of many: write; without it they are only looked at")
@click.option("--stop-after", default=5, show_default=True, type=click.IntRange(1, 1000), help="failures in a row")
@click.option("--note", callback=note, help="why; kept in the audit log")
@click.option("--actor", default="cli", show_default=True, help="who the audit log names")
@click.option("--json", "as_json", is_flag=True, help="of many: a line for each, the last one is the summary")
@with_app
@refusals_told
def sync(
    app: Flask, org_id: Any, dry_run: bool, finding_kind: str | None, status: str | None, apply: bool, **how: Any
) -> None:
    """Bring an organization's row to Stripe's state, or the rows of many.

    With --finding-kind or --status each that matches is looked at and what would change is told; --apply writes it,
    each by itself, at the background's share of STRIPE_REQUESTS_PER_SECOND. One that is refused or fails does not hold
    up the others; --stop-after failures in a row (Stripe or the database is away, the key is wrong) end it. Run it
    again to go on: what is in step is not changed twice.

    Exit codes: 0 done, 1 refused (the reason is told); of many: 0 all were looked at and none was refused or failed, 1
    otherwise, 2 wrong use.
    """
    from .. import subscriptions
    from .repairing_many import sync_many

    chosen = [each for each in (org_id, finding_kind, status) if each is not None]
    if len(chosen) != 1:
        raise click.UsageError("name one organization, or --finding-kind, or --status")
    if org_id is None:
        if dry_run:
            raise click.UsageError("many are only looked at unless --apply is there; --dry-run is for one organization")
        return sync_many(app, finding_kind, status, apply, **how)
    if apply:
        raise click.UsageError("--apply is for many; one organization is written unless --dry-run is there")
    _repair(app, "sync", org_id, dry_run, how["note"], how["actor"], how["as_json"], {}, subscriptions.sync)


@cli.command()
@repair
@click.argument("stripe_subscription_id")
@with_app
@refusals_told
def link(
    app: Flask,
    org_id: Any,
    stripe_subscription_id: str,
    dry_run: bool,
    note: str | None,
    actor: str,
    as_json: bool,
) -> None:
    """Attach a Stripe subscription to an organization, then sync.

    Exit codes: 0 done, 1 refused (the reason is told) or the database does not answer, 2 wrong use.
    """
    from .. import subscriptions

    body = {"stripe_subscription_id": stripe_subscription_id}
    attach = partial(subscriptions.link, subscription_id=stripe_subscription_id)
    _repair(app, "link", org_id, dry_run, note, actor, as_json, body, attach)


def _repair(
    app: Flask,
    kind: str,
    org_id: Any,
    dry_run: bool,
    note: str | None,
    actor: str,
    as_json: bool,
    body: dict[str, Any],
    rule: Callable[..., Any],
) -> None:
    from ..errors import BillingError
    from ..jobs import wakeups
    from ..operations import Asked, Running, perform
    from ..subscriptions import change_outcome

    billing = app.extensions["billing"]
    at_hand = {"stripe": billing.stripe, "plans": billing.plans, "now": billing.clock()}

    def work(running: Running) -> Any:
        return change_outcome(rule(org_id, also=lambda change: running.complete(change_outcome(change)), **at_hand))

    asked = Asked(kind, str(org_id), org_id, actor, "cli", f"cli {kind}", body, note=note)
    try:
        if dry_run:
            outcome = change_outcome(rule(org_id, dry_run=True, **at_hand))
        else:
            outcome, _ = perform(asked, billing.clock, work)
            if kind == "link":
                wakeups.wake_attached(org_id)
    except BillingError as refusal:
        click.echo(f"{refusal.code}: {refusal.detail}", err=True)
        sys.exit(1)
    before, after = outcome.before or {}, outcome.after or {}
    lines = [f"{name}: {before.get(name)} -> {after.get(name)}" for name in outcome.answer["changed"]]
    heading = "would change" if dry_run else "changed"
    say(as_json, outcome.answer, f"{heading}:\n  " + "\n  ".join(lines) if lines else "nothing to change")
