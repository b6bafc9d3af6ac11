"""Reconciliation from the command line: run here, or followed where it runs."""

import sys
import time
from typing import Any

import click
from flask import Flask

from .group import cli, say, with_app
from .terminal import moment, organization, plain

LOOK_SECONDS = 0.5


@cli.command()
@click.option("--org", "org_id", callback=organization, help="this organization only")
@click.option("--actor", default="cli", show_default=True, help="who started it")
@click.option("--json", "as_json", is_flag=True)
@with_app
def reconcile(app: Flask, org_id: Any, actor: str, as_json: bool) -> None:
    """Compare everything, or one organization, with Stripe. Nothing is repaired.

    Goes on with a run that was interrupted, and follows one that is running. Exit codes: 0 clean, 1 divergences (those
    aside that are acknowledged), 2 something could not be compared, the run failed, or another one is in the way.
    """
    from .. import startup
    from ..documents import STORE_ERRORS
    from ..reconciliation import described

    # A key of another account would find everything missing.
    startup.check(app.extensions["billing"])
    try:
        told = described(_run(app, org_id, actor, quiet=as_json))
    except STORE_ERRORS as error:
        click.echo(f"store_unavailable: the database does not answer ({type(error).__name__})", err=True)
        sys.exit(2)
    say(as_json, _document(told), plain_words(told))
    sys.exit(2 if told["state"] == "failed" or told["errors"] else int(told["divergences"] > told["acknowledged"]))


def _run(app: Flask, org_id: Any, actor: str, *, quiet: bool) -> Any:
    from ..errors import BillingError, ReconciliationRunning
    from ..reconciliation import find_run, interrupt, start

    try:
        run = start("cli", app.extensions["billing"].clock(), actor=actor, organization=org_id)
    except ReconciliationRunning as other:
        running = other.facts.get("reconciliationId")
        run = _followed(running, org_id)
        if run is None:
            _refuse(other)
        click.echo(f"following {running}", err=True)
    except BillingError as refusal:
        _refuse(refusal)
    try:
        _carry_out(run, quiet=quiet)
    except KeyboardInterrupt:
        interrupt(run.pk)
        click.echo("interrupted; the same command goes on with it", err=True)
        sys.exit(2)
    return find_run(run.pk)


def _followed(running: Any, org_id: Any) -> Any:
    from bson import ObjectId

    from ..reconciliation import find_run

    run = find_run(ObjectId(running)) if running else None
    return run if run is not None and run.organization == org_id else None


def _refuse(refusal: Any) -> None:
    click.echo(f"{refusal.code}: {refusal.detail}", err=True)
    sys.exit(2)


def _carry_out(run: Any, *, quiet: bool) -> None:
    """Go on with the run whenever nobody else does, until it is over."""
    from ..jobs.reconcile import Progress, desk
    from ..reconciliation import find_run, go_on

    with _Bar(quiet) as bar:
        # Where nobody sees a bar, the log tells.
        tell = Progress().tell if bar.hidden else bar.tell
        while (now := find_run(run.pk)).active:
            tell(now)
            go_on(desk(tell), lambda: False)
            if find_run(run.pk).active:
                time.sleep(LOOK_SECONDS)


class _Bar:
    """A progress bar on the error output, where a person sees it."""

    def __init__(self, quiet: bool):
        self.hidden = quiet or not sys.stderr.isatty()
        self._bar: Any = None

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *error: Any) -> None:
        if self._bar:
            self._bar.__exit__(*error)

    def tell(self, run: Any) -> None:
        if self.hidden or not run.expected:
            return
        if self._bar is None:
            self._bar = click.progressbar(length=run.expected, label=run.phase, file=sys.stderr)
            self._bar.__enter__()
        self._bar.label = f"{run.phase}, {run.candidates} to look at again"
        self._bar.update(max(0, min(run.checked, run.expected) - self._bar.pos))


def _document(told: dict[str, Any]) -> dict[str, Any]:
    from ..blueprints.admin.reconciliations import ReconciliationDetailSchema
    from ..blueprints.naming import named

    return ReconciliationDetailSchema().dump(named([told])[0])


def plain_words(told: dict[str, Any]) -> str:
    """What a run came to, for a person."""
    lines = [
        f"reconciliation {told['id']}: {told['state']} {moment(told['finished_at'])}",
        f"checked {told['checked']}, divergences {told['divergences']}, errors {told['errors']}, "
        f"in flight {told['in_flight']}; new {told['new']}, changed {told['changed']}, resolved {told['resolved']}, "
        f"acknowledged {told['acknowledged']}; {told['stripe_requests']} Stripe requests",
        *(f"  {kind}: {count}" for kind, count in sorted(told["findings"].items())),
        *(f"  not compared: {each['subject']}: {each['code']}: {each['detail']}" for each in told["error_sample"]),
    ]
    if told["error"]:
        lines.append(f"error: {told['error']}")
    return "\n".join(plain(line) for line in lines)
