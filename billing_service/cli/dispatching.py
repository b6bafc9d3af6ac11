"""Pausing and resuming the handling of events from the command line."""

import sys
from collections.abc import Callable
from typing import Any

import click
from flask import Flask

from .group import cli, say, with_app
from .terminal import moment, note, plain, refusals_told


@cli.group()
def dispatch() -> None:
    """Pause and resume the handling of webhook events."""


def change(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a command that pauses or resumes."""
    for option in (
        click.option("--json", "as_json", is_flag=True),
        click.option("--actor", default="cli", show_default=True, help="who the audit log names"),
        click.option("--note", callback=note, help="why; kept in the audit log"),
        click.option("--type", "event_type", help="only events of this type; all without it"),
    ):
        command = option(command)
    return command


@dispatch.command()
@change
@with_app
@refusals_told
def pause(app: Flask, event_type: str | None, note: str | None, actor: str, as_json: bool) -> None:
    """Have events wait: they are received, stored and answered as ever. After an hour an alert is sent.

    Exit codes: 0 paused, also if it was already, 1 the database does not answer, 2 wrong use or an unknown type.
    """
    from ..webhooks import HANDLERS, pauses

    if event_type is not None and event_type not in HANDLERS:
        raise click.UsageError(f"no event of type {event_type!r} is handled; billing-service webhook-types lists them")
    now = app.extensions["billing"].clock()

    def work(also: Callable[[Any], None]) -> Any:
        return pauses.pause(event_type, by=actor, note=note, now=now, also=also)

    answer = _recorded(app, "dispatch_pause", event_type, note, actor, work)
    words = "paused" if answer["changed"] else "was paused already"
    _tell(as_json, answer, f"{event_type or 'all events'}: {words}")


@dispatch.command()
@change
@with_app
@refusals_told
def resume(app: Flask, event_type: str | None, note: str | None, actor: str, as_json: bool) -> None:
    """Lift a pause and wake a worker. Without --type the pause of all events: one of a type has to be lifted by
    its type.

    Exit codes: 0 lifted, also if there was none, 1 the database does not answer, 2 wrong use.
    """
    from ..jobs import wakeups
    from ..webhooks import pauses

    def work(also: Callable[[Any], None]) -> Any:
        return pauses.resume(event_type, by=actor, also=also)

    answer = _recorded(app, "dispatch_resume", event_type, note, actor, work)
    if not wakeups.wake():
        click.echo("Redis does not answer; the sweep takes the waiting events up when it does", err=True)
    words = "resumed" if answer["changed"] else "was not paused"
    _tell(as_json, answer, f"{event_type or 'all events'}: {words}")


@dispatch.command()
@click.option("--json", "as_json", is_flag=True)
@with_app
@refusals_told
def status(app: Flask, as_json: bool) -> None:
    """Show what is paused, since when, by whom, why, and how many events wait.

    Exit codes: 0 nothing is paused, 1 something is, or the database does not answer, 2 wrong use.
    """
    from ..webhooks import pauses

    found = [each.facts() | {"waiting": pauses.waiting(each)} for each in pauses.current().entries]
    _tell(as_json, {"pauses": found}, "running" if not found else "")
    sys.exit(1 if found else 0)


def _recorded(
    app: Flask,
    kind: str,
    event_type: str | None,
    note: str | None,
    actor: str,
    work: Callable[[Callable[[Any], None]], Any],
) -> dict[str, Any]:
    from ..operations import Asked, perform

    asked = Asked(kind, event_type or "*", None, actor, "cli", f"cli {kind}", {"type": event_type}, note=note)
    return perform(asked, app.extensions["billing"].clock, lambda running: work(running.complete))[0].answer


def _tell(as_json: bool, answer: dict[str, Any], heading: str) -> None:
    from ..blueprints.wire import iso

    lines = [heading] if heading else []
    for each in answer["pauses"]:
        waiting = f", waiting: {each['waiting']}" if "waiting" in each else ""
        why = f": {each['note']}" if each["note"] else ""
        what = each["type"] or "all events"
        lines.append(plain(f"paused: {what} since {moment(each['since'])} by {each['by']}{waiting}{why}"))
    pauses = [each | {"since": iso(each["since"])} for each in answer["pauses"]]
    say(as_json, answer | {"pauses": pauses}, "\n".join(lines))
