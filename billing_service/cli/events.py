"""The ledger of events from the command line: what arrives, and which types to enable."""

import contextlib
import json
import time
from datetime import datetime, timedelta
from typing import Any

import click
from flask import Flask

from .group import cli, say, with_app
from .terminal import checked, error_words, moment, organization, organization_words, plain, refusals_told

POLL_SECONDS = 1.0
# An event is visible a moment after it was received, and the clocks of web processes differ.
OVERLAP = timedelta(seconds=60)


@cli.command("webhook-types")
@click.option("--json", "as_json", is_flag=True)
def webhook_types(as_json: bool) -> None:
    """List the event types to enable for the webhook endpoint at Stripe. Exit codes: 0 listed, 2 wrong use."""
    from ..webhooks import HANDLERS

    types = sorted(HANDLERS)
    say(as_json, {"types": types}, "\n".join(types))


@cli.group()
def events() -> None:
    """Look into the ledger of webhook events."""


def _state() -> Any:
    from ..blueprints.wire import one_of
    from ..documents.webhook_event import STATES

    return one_of(STATES)


@events.command()
@click.option("--type", "event_type", help="only events of this type")
@click.option("--org", "org_id", callback=organization, help="only this organization's")
@click.option("--state", callback=checked(_state), help="only those in this state")
@click.option(
    "-n", "--lines", default=20, show_default=True, type=click.IntRange(0, 1000), help="how many to begin with"
)
@click.option("-f", "--follow", is_flag=True, help="go on with what arrives, until Ctrl-C")
@click.option("--json", "as_json", is_flag=True, help="a JSON object a line")
@with_app
@refusals_told
def tail(
    app: Flask,
    event_type: str | None,
    org_id: Any,
    state: str | None,
    lines: int,
    follow: bool,
    as_json: bool,
) -> None:
    """Show the events that were received last, the newest last, a line each.

    With --follow an event is shown once, in the state it has when it is seen first. Exit codes: 0 done or Ctrl-C,
    1 the database does not answer, 2 wrong use.
    """
    from ..blueprints.naming import named
    from ..webhooks import reading

    asked = {"type": event_type, "org_id": org_id, "state": state}
    # Before the list is read: what arrives in between is shown with it or is not known yet.
    known = _recent(asked) if follow else {}
    newest = list(reading.find_events(asked).order_by("-received_at", "-id").limit(lines)) if lines else []
    for event in named(newest[::-1]):
        _print(event, as_json)
    if follow:
        with contextlib.suppress(KeyboardInterrupt):
            _follow(asked, known | {event.pk: event.received_at for event in newest}, as_json)


def _follow(asked: dict[str, Any], known: dict[Any, datetime], as_json: bool) -> None:
    from ..blueprints.naming import named
    from ..documents import STORE_ERRORS

    while True:
        time.sleep(POLL_SECONDS)
        mark = max(known.values(), default=None)
        try:
            found = _received_since(asked, mark)
            new = [each for each in found if each not in known]
            arrived = named(_those(new))
        except STORE_ERRORS as error:
            click.echo(f"the database does not answer ({type(error).__name__}), trying again", err=True)
            continue
        for event in arrived:
            _print(event, as_json)
        known = found


def _those(ids: list[Any]) -> list[Any]:
    from ..webhooks import reading

    return list(reading.find_events({}).filter(id__in=ids).order_by("received_at", "id")) if ids else []


def _recent(asked: dict[str, Any]) -> dict[Any, datetime]:
    from ..webhooks import reading

    newest = reading.find_events(asked).order_by("-received_at", "-id").first()
    return _received_since(asked, newest.received_at) if newest else {}


def _received_since(asked: dict[str, Any], mark: datetime | None) -> dict[Any, datetime]:
    """The ids, each with its time, of what was received around the mark or later."""
    from ..webhooks import reading

    bound = {"since": mark - OVERLAP} if mark else {}
    return dict(reading.find_events(asked | bound).scalar("id", "received_at"))


def _print(event: Any, as_json: bool) -> None:
    if as_json:
        from ..blueprints.admin.event_schemas import ListedEventSchema

        click.echo(json.dumps(ListedEventSchema().dump(event)))
        return
    ending = event.outcome if event.state == "succeeded" else event.reason
    parts = [
        moment(event.received_at),
        event.event_id,
        event.type,
        f"{event.state}/{ending}" if ending else event.state,
        organization_words(event),
        f"attempts {event.attempts}",
        error_words(event.history) if event.state in ("failed", "dead") else "",
    ]
    click.echo(plain("  ".join(part for part in parts if part)))
