"""Replaying many events from the command line: look first, then run what was looked at, and follow it."""

import sys
import time
from collections.abc import Callable
from typing import Any

import click
from flask import Flask

from .group import cli, say, with_app
from .terminal import checked, moment, note, organization, plain, refusals_told

LOOK_SECONDS = 0.5
OPEN = ("queued", "running", "cancelling")


@cli.group("replay-batch")
def replay_batch() -> None:
    """Replay many events: the first one alone, the rest if it went well."""


def _states() -> Any:
    from ..blueprints.wire import one_of
    from ..webhooks.selection import STATES

    return one_of(STATES)


def _instant() -> Any:
    from ..blueprints.wire import Instant

    return Instant()


def _batch_id() -> Any:
    from ..blueprints.wire import OrgId

    return OrgId()


def filters(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that select events."""
    for option in (
        click.option("--state", callback=checked(_states), help="dead (the default), failed or received"),
        click.option("--type", "type", help="only events of this type"),
        click.option("--fingerprint", help="only failures that are alike: as dead-letters groups tells it"),
        click.option("--reason", help="only those that died of this"),
        click.option("--org", "org_id", callback=organization, help="only this organization's"),
        click.option("--received-from", callback=checked(_instant), help="received at this time (ISO 8601) or later"),
        click.option("--received-to", callback=checked(_instant), help="received before this time"),
        click.option("--limit", type=click.IntRange(1, 50_000), help="at most so many, created first"),
    ):
        command = option(command)
    return command


@replay_batch.command()
@filters
@click.option("--apply", "apply", is_flag=True, help="run it; without it nothing is written")
@click.option("--confirm", type=click.IntRange(min=1), help="with --apply: the number that was told without it")
@click.option("--stop-after", default=5, show_default=True, type=click.IntRange(1, 1000), help="failures in a row")
@click.option("--note", callback=note, help="why; kept in the audit log")
@click.option("--actor", default="cli", show_default=True, help="who the audit log names")
@click.option("--wait", default=3600.0, show_default=True, type=click.FloatRange(0), help="seconds for its end")
@click.option("--json", "as_json", is_flag=True)
@with_app
@refusals_told
def run(
    app: Flask,
    apply: bool,
    confirm: int | None,
    stop_after: int,
    note: str | None,
    actor: str,
    wait: float,
    as_json: bool,
    **wanted: Any,
) -> None:
    """Tell how many events would be replayed and which; with --apply and --confirm, replay them and follow.

    Ctrl-C ends the following, not the batch. Exit codes: 0 it succeeded (without --apply: told), 1 refused, not all
    succeeded, stopped, cancelled or not done in time, 2 wrong use.
    """
    from ..documents import database_now
    from ..webhooks.selection import select

    chosen = select(wanted, database_now())
    if not apply:
        return _tell_selection(chosen, as_json)
    if confirm is None:
        raise click.UsageError("--apply needs --confirm with the number of events: run it without --apply first")
    batch_id = _start(app, chosen, confirm, stop_after, actor, note)
    told = _follow(batch_id, wait, silent=as_json)
    _tell(told, as_json)
    sys.exit(told["state"] != "succeeded")


def _tell_selection(chosen: Any, as_json: bool) -> None:
    from ..blueprints.admin.batch_schemas import BatchAskedSchema
    from ..webhooks.batches import foretell

    told = BatchAskedSchema(exclude=("selection", "valid_until")).dump(foretell(chosen, "").answer | {"dry_run": True})
    lines = [
        f"{each['created']}  {each['eventId']}  {each['type']}  org {each['orgId'] or '-'}" for each in told["sample"]
    ]
    left_out = f", {told['unfit']} more match that no replay can help" if told["unfit"] else ""
    more = "; more match than the limit" if told["isLimited"] else ""
    lines.append(f"{told['count']} events would be replayed ({chosen.words}){more}{left_out}")
    if told["count"]:
        lines.append(f"To do it: the same with --apply --confirm {told['count']}")
    say(as_json, told, "\n".join(plain(line) for line in lines))


def _start(app: Flask, chosen: Any, confirm: int, stop_after: int, actor: str, note: str | None) -> Any:
    from bson import ObjectId

    from ..jobs import wakeups
    from ..operations import Asked, perform
    from ..webhooks import batches

    whose = chosen.wanted.get("org_id")
    body = {"confirm": confirm, "stop_after": stop_after}
    asked = Asked("replay_batch", chosen.words, whose, actor, "cli", "cli replay-batch run", body, note=note)
    outcome, _ = perform(
        asked,
        app.extensions["billing"].clock,
        lambda running: batches.start(running, chosen, confirm=confirm, stop_after=stop_after),
    )
    wakeups.wake_batches()
    return ObjectId(outcome.answer["batch_id"])


def _follow(batch_id: Any, seconds: float, *, silent: bool) -> dict[str, Any]:
    """Tell each step of the batch until it ends, the time is over, or Ctrl-C; what it is then."""
    from ..webhooks import batches

    deadline, last = time.monotonic() + seconds, ""
    try:
        while (told := batches.describe(batches.find(batch_id)))["state"] in OPEN and time.monotonic() < deadline:
            if not silent and (line := _progress(told)) != last:
                click.echo(line, err=True)
                last = line
            time.sleep(LOOK_SECONDS)
    except KeyboardInterrupt:
        told = batches.describe(batches.find(batch_id))
    return told


def _progress(told: dict[str, Any]) -> str:
    counts = ", ".join(f"{told[name]} {name}" for name in ("succeeded", "failed", "skipped", "refused") if told[name])
    waits = f"; waits for {told['waiting_for']} until {moment(told['waiting_until'])}" if told["waiting_until"] else ""
    return plain(f"{told['state']}: {told['done']} of {told['total']}{counts and f' ({counts})'}{waits}")


def _tell(told: dict[str, Any], as_json: bool) -> None:
    from ..blueprints.admin.batch_schemas import BatchSchema

    reason = f" because of {told['stop_reason']}" if told["stop_reason"] else ""
    worker = "; is a worker running? It goes on as soon as one is." if told["state"] == "queued" else ""
    say(as_json, BatchSchema().dump(told), f"batch {told['batch_id']} {_progress(told)}{reason}{worker}")


@replay_batch.command()
@click.argument("batch_id", callback=checked(_batch_id))
@click.option("--failed", is_flag=True, help="list what failed or was refused, too")
@click.option("--follow", is_flag=True, help="until it ends")
@click.option(
    "--json", "as_json", is_flag=True, help="as GET /api/admin/billing/webhook/replay-batch/{batchId} answers"
)
@with_app
@refusals_told
def show(app: Flask, batch_id: Any, failed: bool, follow: bool, as_json: bool) -> None:
    """Show how far a batch is.

    Exit codes: 0 done, 1 there is no such batch, 2 wrong use.
    """
    from ..webhooks import batches

    told = _follow(batch_id, float("inf"), silent=as_json) if follow else batches.describe(batches.find(batch_id))
    _tell(told, as_json)
    if failed and not as_json:
        for state in ("failed", "refused"):
            for item in batches.find_items(batch_id, state=state, after=-1, limit=1000):
                click.echo(_item_line(item))


def _item_line(item: Any) -> str:
    from ..webhooks import masking

    why = item.code or item.error_class or "-"
    return plain(f"{item.position}  {item.event_id}  {item.state}  {why}: {masking.words(item.error_message) or ''}")


@replay_batch.command()
@click.argument("batch_id", callback=checked(_batch_id))
@click.option("--note", callback=note, help="why; kept in the audit log")
@click.option("--actor", default="cli", show_default=True, help="who the audit log names")
@click.option("--json", "as_json", is_flag=True)
@with_app
@refusals_told
def cancel(app: Flask, batch_id: Any, note: str | None, actor: str, as_json: bool) -> None:
    """Begin no further event of a batch; the one at hand comes to its end.

    Exit codes: 0 cancelled, also if it was already, 1 it has ended or there is none, 2 wrong use.
    """
    from ..blueprints.admin.batch_schemas import BatchCancelledSchema
    from ..jobs import wakeups
    from ..operations import Asked, perform
    from ..webhooks import batches

    whose = batches.organization_of(batch_id)
    route = "cli replay-batch cancel"
    asked = Asked("cancel_replay_batch", f"batch {batch_id}", whose, actor, "cli", route, {}, note=note)
    answer = perform(
        asked,
        app.extensions["billing"].clock,
        lambda running: batches.cancel(batch_id, by=actor, also=running.complete),
    )[0].answer
    wakeups.wake_batches()
    say(as_json, BatchCancelledSchema().dump(answer), f"batch {batch_id} is {answer['state']}")
