"""Replaying one event from the command line."""

import sys
import time
from typing import Any

import click
from flask import Flask

from .group import cli, say, with_app
from .terminal import event, note, plain, refusals_told

LOOK_SECONDS = 0.3
OPEN = ("queued", "running")


@cli.command()
@click.argument("event_id", callback=event)
@click.option("--force", is_flag=True, help="also one that succeeded or was closed")
@click.option("--dry-run", is_flag=True, help="write nothing, tell what would change")
@click.option("--note", callback=note, help="why; kept in the audit log")
@click.option("--actor", default="cli", show_default=True, help="who the audit log names")
@click.option("--wait", default=30.0, show_default=True, type=click.FloatRange(0, 3600), help="seconds for its end")
@click.option("--json", "as_json", is_flag=True)
@with_app
@refusals_told
def replay(
    app: Flask,
    event_id: str,
    force: bool,
    dry_run: bool,
    note: str | None,
    actor: str,
    wait: float,
    as_json: bool,
) -> None:
    """Have one event handled again by a worker, and wait for its end.

    Exit codes: 0 it succeeded (a dry run: it would), 1 refused, failed or not done in time (the reason is told),
    2 wrong use.
    """
    from ..blueprints.admin.replays import ReplayAskedSchema, ReplaySchema

    if dry_run:
        told = {"event_id": event_id, "dry_run": True} | _foresee(app, event_id, force)
        say(as_json, ReplayAskedSchema().dump(told), _foreseen(told))
        sys.exit(told["outcome"] == "dead")
    told = _await_end(_ask(app, event_id, force, actor, note), wait)
    say(as_json, ReplaySchema().dump(told), _told(told))
    sys.exit(told["state"] != "succeeded")


def _foresee(app: Flask, event_id: str, force: bool) -> dict[str, Any]:
    from ..jobs.dispatch import desk
    from ..webhooks.replay import foresee

    return foresee(event_id, force=force, desk=desk(), livemode=_livemode(app)).facts()


def _ask(app: Flask, event_id: str, force: bool, actor: str, note: str | None) -> str:
    from ..jobs.dispatch import desk
    from ..jobs.replay import enqueue_replay
    from ..operations import Asked, perform
    from ..webhooks import reading
    from ..webhooks.replay import request

    whose = reading.organization_of(event_id)
    body = {"event_id": event_id, "force": force}
    asked = Asked("replay", event_id, whose, actor, "cli", "cli replay", body, note=note)
    how: dict[str, Any] = {"force": force, "desk": desk(), "livemode": _livemode(app)}
    outcome, _ = perform(asked, app.extensions["billing"].clock, lambda running: request(running, event_id, **how))
    enqueue_replay(event_id, outcome.answer["job_id"])
    return outcome.answer["job_id"]


def _livemode(app: Flask) -> bool:
    return app.extensions["billing"].settings.livemode


def _await_end(job_id: str, seconds: float) -> dict[str, Any]:
    from ..webhooks.replay import find_replay

    deadline = time.monotonic() + seconds
    while (found := find_replay(job_id)).state in OPEN and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
    return found.facts()


def _foreseen(told: dict[str, Any]) -> str:
    if told["outcome"] == "dead":
        return plain(f"it would fail: {told['reason']}: {told['detail']}")
    lines = [f"  {each['field']}: {each['previous']} -> {each['updated']}" for each in told["changes"]]
    heading = f"it would be {told['outcome']}" + (", and change" if lines else "; nothing would change")
    return "\n".join(plain(line) for line in (heading, *lines))


def _told(told: dict[str, Any]) -> str:
    ends = {
        "succeeded": f"succeeded: {told['outcome']}",
        "failed": f"failed, the event is {told['event_state']}: {told['error_class']}: {told['error_message']}",
        "waiting": f"waits until {told['next_attempt_at']} for an outage to end",
    }
    state = ends.get(told["state"], f"{told['state']}; is a worker running? It is done as soon as one is.")
    return plain(f"{told['job_id']}: {state}")
