"""The command line: every process and every runbook step is one of these commands.

Exit codes: 0 done, 1 the answer is "no" (see each command's help), 2 wrong use or configuration.
"""

import json
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial, wraps
from pathlib import Path
from typing import Any

import click
from flask import Flask

from . import __version__, create_app
from .plans import PlanFileError
from .settings import UnsafeConfiguration


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """Operate a SaaS's billing beside Stripe."""


def with_app(command: Callable[..., Any]) -> Callable[..., Any]:
    """Run the command inside the application's context, configured by the environment."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        from . import observability

        app = create_app()
        observability.configure(app.extensions["billing"].settings.log_level)
        with app.app_context():
            return command(app, *args, **kwargs)

    return run


def say(as_json: bool, document: dict[str, Any], words: str) -> None:
    """Print a result for a program or for a person."""
    click.echo(json.dumps(document, default=str) if as_json else words)


@cli.command()
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65535), help="the web process's port")
@click.option(
    "--data-dir",
    default=".data",
    show_default=True,
    type=click.Path(path_type=Path),
    help="kept between starts",
)
@click.option("--no-demo", is_flag=True, help="start without demo data")
@click.option("--ready-file", type=click.Path(path_type=Path), help="JSON written when all is up")
def dev(port: int, data_dir: Path, no_demo: bool, ready_file: Path | None) -> None:
    """Start everything on this machine: MongoDB, Redis, a Stripe sandbox, web, worker, scheduler, demo data.

    MONGODB_URI, REDIS_URL, STRIPE_SECRET_KEY or STRIPE_API_BASE given: that part is used, not started.
    Exit codes: 0 stopped by Ctrl-C or SIGTERM, 1 something did not start or died too often, 2 wrong use.
    """
    from .sandbox.dev import run

    sys.exit(run(port=port, data_dir=data_dir, demo=not no_demo, ready_file=ready_file, environ=os.environ))


@cli.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65535))
@with_app
def web(app: Flask, host: str, port: int) -> None:
    """Serve HTTP with gunicorn. Exit code 2: MongoDB cannot do transactions, or the Stripe account is another one."""
    from . import startup

    startup.check(app.extensions["billing"])
    startup.exec_gunicorn(app.extensions["billing"].settings, host, port)


@cli.command()
@with_app
def worker(app: Flask) -> None:
    """Run jobs until told to stop."""
    from . import startup
    from .jobs import worker as process

    startup.check(app.extensions["billing"])
    process.run(app)


@cli.command()
@with_app
def scheduler(app: Flask) -> None:
    """Put periodic jobs into the queues until told to stop; several may run."""
    from .jobs import scheduler as process

    process.run(app)


@cli.command()
@click.option("--json", "as_json", is_flag=True)
@with_app
def indexes(app: Flask, as_json: bool) -> None:
    """Make the collections and indexes that are missing."""
    from .documents import DOCUMENTS, ensure_indexes

    found = ensure_indexes(DOCUMENTS)
    say(as_json, {"indexes": found}, "\n".join(found))


@cli.command()
@click.option("--role", "roles", multiple=True, default=["admin"], show_default=True)
@click.option("--minutes", default=60.0, show_default=True, type=click.FloatRange(0.1, 60 * 24 * 30))
@click.option("--actor", default="cli", show_default=True, help="the token's subject: who the audit log names")
@click.option("--json", "as_json", is_flag=True)
@with_app
def token(app: Flask, roles: tuple[str, ...], minutes: float, actor: str, as_json: bool) -> None:
    """Make a token with JWT_SECRET_KEY. Exit code 2: unknown role, or the tokens come from another issuer."""
    from . import tokens
    from .access import ROLES

    unknown = sorted(set(roles) - set(ROLES))
    if unknown:
        raise click.UsageError(f"unknown role {', '.join(unknown)}; there are {', '.join(ROLES)}")
    try:
        made = tokens.issue(app.extensions["billing"].settings, actor, list(roles), minutes)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    expires_at = (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat(timespec="seconds").replace("+00:00", "Z")
    say(as_json, {"token": made, "expiresAt": expires_at}, made)


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
    from . import subscriptions

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
    from . import subscriptions

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
    from .errors import BillingError
    from .jobs import wakeups
    from .operations import Asked, Running, perform
    from .subscriptions import change_outcome

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


@cli.command("webhook-types")
@click.option("--json", "as_json", is_flag=True)
def webhook_types(as_json: bool) -> None:
    """List the event types to enable for the webhook endpoint at Stripe."""
    from .webhooks import HANDLERS

    types = sorted(HANDLERS)
    say(as_json, {"types": types}, "\n".join(types))


def main() -> None:
    """Run a command; a configuration that is refused is told in words, not as a traceback."""
    try:
        cli(standalone_mode=True)
    except (UnsafeConfiguration, PlanFileError) as error:
        click.echo(str(error), err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
