"""Repairing one organization: sync and link."""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import click
from flask import Flask

from .group import cli, say, with_app


def _organization_id(context: click.Context, parameter: click.Parameter, value: str) -> Any:
    from bson import ObjectId

    if len(value) != 24 or not ObjectId.is_valid(value):
        raise click.BadParameter("an organization id has 24 hexadecimal characters")
    return ObjectId(value)


def repair(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a command that repairs one organization."""
    for option in (
        click.argument("org_id", callback=_organization_id),
        click.option("--dry-run", is_flag=True, help="write nothing, tell what would change"),
        click.option("--note", help="why; kept in the audit log"),
        click.option("--actor", default="cli", show_default=True, help="who the audit log names"),
        click.option("--json", "as_json", is_flag=True),
    ):
        command = option(command)
    return command


@cli.command()
@repair
@with_app
def sync(app: Flask, org_id: Any, dry_run: bool, note: str | None, actor: str, as_json: bool) -> None:
    """Bring an organization's row to Stripe's state. Exit codes: 0 done, 1 refused (the reason is told)."""
    from .. import subscriptions

    _repair(app, "sync", org_id, dry_run, note, actor, as_json, {}, subscriptions.sync)


@cli.command()
@repair
@click.argument("stripe_subscription_id")
@with_app
def link(
    app: Flask,
    org_id: Any,
    stripe_subscription_id: str,
    dry_run: bool,
    note: str | None,
    actor: str,
    as_json: bool,
) -> None:
    """Attach a Stripe subscription to an organization, then sync. Exit codes: 0 done, 1 refused."""
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
