"""Importing an existing Stripe account: looked at first, then written; it goes on wherever it was ended."""

import json
import sys
import time
from typing import Any

import click
from flask import Flask

from .group import cli, say, with_app
from .terminal import checked, moment, note, plain, refusals_told

LOOK_SECONDS = 0.5
LOG_SECONDS = 10.0
FORMATS = ("text", "json", "csv")


def _import_id() -> Any:
    from ..blueprints.wire import OrgId

    return OrgId()


@cli.group("import", invoke_without_command=True)
@click.option("--apply", "apply", is_flag=True, help="write the rows; without it all is only looked at")
@click.option("--canceled", is_flag=True, help="canceled subscriptions, too: their customers' refunds can be made then")
@click.option("--restart", is_flag=True, help="do not go on with the one that was interrupted: begin anew")
@click.option("--note", callback=note, help="why; kept in the audit log")
@click.option("--actor", default="cli", show_default=True, help="who the audit log names")
@click.option("--json", "as_json", is_flag=True)
@click.pass_context
def import_(context: click.Context, **how: Any) -> None:
    """Make rows for the subscriptions of an existing Stripe account.

    Whose each one is, metadata.organizationId of the subscription or its customer says; the organizations must be known
    here. What cannot be mapped is listed with a reason (import items), never guessed. An organization whose row has a
    subscription is left alone: that is for sync. Nobody is told of plans as of a change. Ctrl-C or a crash end it; the
    same command goes on with it. It keeps to the background's share of STRIPE_REQUESTS_PER_SECOND.

    Exit codes: 0 all is mapped (foreign ones aside), 1 something is not, 2 it did not come to its end, or another one
    is in the way.
    """
    if context.invoked_subcommand is None:
        _import(**how)


@with_app
def _import(app: Flask, *, restart: bool, as_json: bool, **wanted: Any) -> None:
    from .. import startup
    from ..documents import STORE_ERRORS
    from ..errors import BillingError
    from ..importing import Wanted, start

    billing = app.extensions["billing"]
    # A key of another account would import that one.
    startup.check(billing)
    try:
        run, fresh = start(Wanted(**wanted), billing.clock(), restart=restart)
        if not fresh:
            click.echo(f"going on with the import {run.pk}", err=True)
        who = {name: wanted[name] for name in ("actor", "note")}
        told = _carry_out(billing, run, who, quiet=as_json)
    except BillingError as refusal:
        click.echo(f"{refusal.code}: {refusal.detail}", err=True)
        sys.exit(2)
    except STORE_ERRORS as error:
        click.echo(f"store_unavailable: the database does not answer ({type(error).__name__})", err=True)
        sys.exit(2)
    say(as_json, _document(told.describe()), _words(told))
    open_reasons = {reason for reason in told.reasons if reason != "foreign"}
    sys.exit(2 if told.state != "completed" else int(bool(open_reasons)))


def _carry_out(billing: Any, run: Any, who: dict[str, Any], *, quiet: bool) -> Any:
    """Go on with the import until it is over. Raises ImportRunning when another process is at it, and alive."""
    from ..importing import Desk, find_import, go_on, interrupt

    with _Progress(quiet) as progress:
        desk = Desk(billing.stripe, billing.plans, billing.clock, tell=progress.tell, **who)
        other: Any = None
        try:
            while (now := find_import(run.pk)).active:
                if not go_on(desk, lambda: False):
                    other = _watched(find_import(run.pk), other)
                    time.sleep(LOOK_SECONDS)
        except KeyboardInterrupt:
            interrupt(run.pk)
            click.echo("interrupted; the same command goes on with it", err=True)
            sys.exit(2)
    return now


def _watched(run: Any, other: Any) -> Any:
    """Another holder as it was first seen; a lease that is renewed is of one that lives."""
    from ..importing import running

    if run.lease_owner is None:
        return None  # it waits, for Stripe mostly
    if other is None:
        click.echo("another process holds it; looking whether it lives, a minute at most", err=True)
        return run
    if (run.fence, run.lease_until) != (other.fence, other.lease_until):
        raise running(run)
    return other


class _Progress:
    """A bar on the error output, where a person sees it, and a line of the log every ten seconds."""

    def __init__(self, quiet: bool):
        self._hidden = quiet or not sys.stderr.isatty()
        self._bar: Any = None
        self._phase: str | None = None
        self._logged_at = time.monotonic()

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *error: Any) -> None:
        if self._bar:
            self._bar.__exit__(*error)

    def tell(self, run: Any) -> None:
        from ..observability import log

        now = time.monotonic()
        if now - self._logged_at >= LOG_SECONDS:
            self._logged_at = now
            names = ("phase", "listed", "settled", "organizations", "stripe_requests")
            log.info("import_progress", run=str(run.pk), **{name: getattr(run, name) for name in names})
        length, place = _progress_of(run)
        if self._hidden or not length:
            return
        if self._phase != run.phase:
            self.__exit__(None, None, None)
            self._phase = run.phase
            self._bar = click.progressbar(length=length, label=run.phase, file=sys.stderr)
            self._bar.__enter__()
        self._bar.label = f"{run.phase}, {run.listed} subscriptions, {run.organizations} rows"
        self._bar.update(max(0, min(place, length) - self._bar.pos))


def _progress_of(run: Any) -> tuple[int, int]:
    """How much there is, and how much of it is done: of the list, days; of the rows, subscriptions."""
    if run.phase == "organizations":
        return run.listed, run.settled
    days = [((each.until - each.since).days + 1, (each.at - each.since).days, each.done) for each in run.windows]
    return sum(all_of for all_of, _, _ in days), sum(all_of - (0 if done else left) for all_of, left, done in days)


def _document(told: dict[str, Any]) -> dict[str, Any]:
    from datetime import datetime

    from ..blueprints.wire import camel

    named = {"orgId" if name == "organization" else camel(name): value for name, value in told.items()}
    return {name: moment(value) if isinstance(value, datetime) else value for name, value in named.items()}


def _words(run: Any) -> str:
    """What an import came to, for a person."""
    from ..importing import REASONS

    states = {name: run.states.get(name, 0) for name in ("imported", "beside", "kept", "unmapped")}
    made = "got a row" if run.apply else "would get a row"
    lines = [
        f"import {run.pk}: {run.state} {moment(run.finished_at)}{'' if run.apply else ' (nothing was written)'}",
        f"{run.listed} subscriptions: {states['imported']} imported, {states['beside']} beside another one of their "
        f"organization, {states['kept']} of organizations that have a row, {states['unmapped']} not mapped; "
        f"{run.stripe_requests} pages read",
        f"{run.organizations} organizations {made}, {run.plans_changed} of them with another plan than before",
        *(f"  {name}: {count}  {REASONS.get(name, '')}" for name, count in sorted(run.reasons.items())),
    ]
    if run.error:
        lines.append(f"error: {run.error}")
    if run.reasons:
        lines.append(f"Each of them: billing-service import items --import {run.pk} --state unmapped")
    if run.state == "completed" and run.organizations and not run.apply:
        lines.append("To do it: the same with --apply.")
    return "\n".join(plain(line) for line in lines)


def _one_of(kind: str) -> Any:
    def field() -> Any:
        from ..blueprints.wire import one_of
        from ..documents.import_item import ITEM_STATES
        from ..importing import REASONS

        return one_of(tuple(ITEM_STATES if kind == "state" else (*REASONS, "internal_error", "stripe_rejected")))

    return checked(field)


@import_.command("items")
@click.option("--import", "import_id", callback=checked(_import_id), help="of this import; without it the newest one's")
@click.option("--state", callback=_one_of("state"), help="imported, beside, kept, unmapped or pending")
@click.option("--reason", callback=_one_of("reason"), help="of the unmapped ones")
@click.option("--format", "form", type=click.Choice(FORMATS), default="text", show_default=True)
@with_app
@refusals_told
def items(app: Flask, import_id: Any, state: str | None, reason: str | None, form: str) -> None:
    """List what an import makes of each subscription, or why it can make nothing of it.

    Kept for 30 days. With --format json each is a line. Exit codes: 0 told, 1 there is no such import, 2 wrong use.
    """
    from ..importing import find_import, items_of

    run = find_import(import_id)
    if reason is not None:
        state = "unmapped"
    for line in _LINES[form](items_of(run, state=state, reason=reason)):
        click.echo(line)


def _text_lines(found: Any) -> Any:
    for each in found:
        told = " ".join(filter(None, (each.reason, each.detail)))
        if each.state == "imported":
            told = f"{each.previous_plan or '-'} -> {each.plan}"
        ids = f"{each.stripe_subscription_id}  {each.stripe_customer_id or '-'}  org {each.organization or '-'}"
        yield plain(f"{ids}  {each.status or '-'}  {each.state}  {told}")


def _json_lines(found: Any) -> Any:
    for each in found:
        yield json.dumps(_document(each.describe()), default=str)


def _csv_lines(found: Any) -> Any:
    from ..blueprints.export import cell, line
    from ..documents import ImportItem

    yield line(list(_document(ImportItem().describe()))).rstrip()
    for each in found:
        yield line([cell(value) for value in _document(each.describe()).values()]).rstrip()


_LINES = {"text": _text_lines, "json": _json_lines, "csv": _csv_lines}
