"""Dead letters from the command line: list, group, show, close."""

import json
from typing import Any

import click
from flask import Flask

from .group import cli, say, with_app
from .terminal import error_words, event, moment, note, organization, organization_words, plain, refusals_told, span


@cli.group("dead-letters")
def dead_letters() -> None:
    """Events that no attempt is left for."""


@dead_letters.command("list")
@click.option("--type", "event_type", help="only events of this type")
@click.option("--fingerprint", help="only failures that are alike: as --json tells it")
@click.option("--org", "org_id", callback=organization, help="only this organization's")
@click.option("--reason", help="only those that died of this")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000))
@click.option("--json", "as_json", is_flag=True, help="as GET /api/admin/billing/dead-letters answers")
@with_app
@refusals_told
def list_letters(
    app: Flask,
    event_type: str | None,
    fingerprint: str | None,
    org_id: Any,
    reason: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List dead letters, the last that died first; closed ones are hidden.

    Exit codes: 0 done, also if there is none, 1 the database does not answer, 2 wrong use.
    """
    from ..blueprints.admin.event_schemas import DeadLettersPage
    from ..blueprints.naming import named_page
    from ..blueprints.paging import page
    from ..webhooks import reading

    asked = {"type": event_type, "fingerprint": fingerprint, "org_id": org_id, "reason": reason}
    found = named_page(page(reading.find_dead_letters(asked), key="dead_at", limit=limit, cursor=None))
    now = app.extensions["billing"].clock()
    total = f"{found['total']}{' or more' if found['total_is_capped'] else ''}"
    lines = [_line(each, now) for each in found["items"]] + [f"{len(found['items'])} of {total} dead letters"]
    say(as_json, DeadLettersPage().dump(found | {"page": 1}), "\n".join(lines))


def _line(letter: Any, now: Any) -> str:
    from ..webhooks import reading

    parts = [
        moment(letter.dead_at),
        letter.event_id,
        letter.type,
        f"age {span(reading.age_seconds(letter.created, now))}",
        "at Stripe" if reading.is_at_stripe(letter.created, now) else "no longer at Stripe",
        organization_words(letter),
        f"attempts {letter.attempts}",
        letter.reason or "-",
        error_words(letter.history),
    ]
    return plain("  ".join(part for part in parts if part))


@dead_letters.command("groups")
@click.option("--type", "event_type", help="only events of this type")
@click.option("--org", "org_id", callback=organization, help="only this organization's")
@click.option("--reason", help="only those that died of this")
@click.option("--sort", type=click.Choice(["count", "newest"]), default="count", show_default=True)
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 100))
@click.option("--json", "as_json", is_flag=True, help="as GET /api/admin/billing/dead-letters/groups answers")
@with_app
@refusals_told
def list_groups(
    app: Flask, event_type: str | None, org_id: Any, reason: str | None, sort: str, limit: int, as_json: bool
) -> None:
    """Count dead letters by what failed alike: fingerprint and type, the largest group first.

    Exit codes: 0 done, also if there is none, 1 the database does not answer, 2 wrong use.
    """
    from dataclasses import asdict

    from ..blueprints.admin.event_schemas import GroupsSchema
    from ..webhooks import reading

    asked = {"type": event_type, "org_id": org_id, "reason": reason}
    found = reading.find_groups(asked, order=sort, limit=limit)
    lines = [_group_line(each) for each in found.items]
    lines.append(f"{len(found.items)} of {found.total} groups, {found.letters} dead letters")
    say(as_json, GroupsSchema().dump(asdict(found) | {"limit": limit}), "\n".join(lines))


def _group_line(group: dict[str, Any]) -> str:
    parts = [
        f"{group['count']:>6}",
        group["type"],
        f"{moment(group['first_at'])} to {moment(group['last_at'])}",
        ", ".join(group["reasons"]) or "-",
        f"version {', '.join(group['code_versions']) or '-'}",
        f"e.g. {group['sample_event_id']}",
        group["fingerprint"] or "",
    ]
    return plain("  ".join(part for part in parts if part))


@dead_letters.command()
@click.argument("event_id", callback=event)
@click.option("--payload", is_flag=True, help="show personal data too; secrets stay masked")
@click.option("--json", "as_json", is_flag=True, help="as GET /api/admin/billing/events/{eventId} answers")
@with_app
@refusals_told
def show(app: Flask, event_id: str, payload: bool, as_json: bool) -> None:
    """Show an event, dead or not, with its history and payload.

    Exit codes: 0 done, 1 the ledger has no such event, 2 wrong use.
    """
    from ..blueprints.admin.event_schemas import EventDetailSchema
    from ..blueprints.naming import named
    from ..webhooks import reading

    [described] = named([reading.describe(reading.find_event(event_id), unmasked=payload)])
    shown = EventDetailSchema().dump(described)
    say(as_json, shown, "\n".join(_detail(shown)))


def _detail(shown: dict[str, Any]) -> list[str]:
    apart = ("history", "payload", "lastError")
    lines = [f"{name}: {_value(value)}" for name, value in shown.items() if name not in apart and value is not None]
    lines.append(f"history, {len(shown['history'])} attempts:")
    for line in shown["history"]:
        who = f"{line['source']} by {line['actor']}, {line['milliseconds']} ms, version {line['codeVersion']}"
        error = f": {line['errorClass']}: {line['errorMessage']}" if line["errorClass"] else ""
        lines.append(plain(f"  {line['at']}  {who}{error}"))
    lines.append(f"payload{', personal data masked' if shown['payloadMasked'] else ''}:")
    # ASCII only: what a customer typed must not reach the terminal as it is.
    return [*lines, json.dumps(shown["payload"], indent=2)]


def _value(value: Any) -> str:
    return json.dumps(value) if isinstance(value, (dict, bool)) else plain(value)


@dead_letters.command()
@click.argument("event_id", callback=event)
@click.option("--note", required=True, callback=note, help="why; kept with the event and in the audit log")
@click.option("--actor", default="cli", show_default=True, help="who the audit log names")
@click.option("--dry-run", is_flag=True, help="write nothing, tell what would change")
@click.option("--json", "as_json", is_flag=True)
@with_app
@refusals_told
def close(app: Flask, event_id: str, note: str, actor: str, dry_run: bool, as_json: bool) -> None:
    """Close a dead letter: it is hidden, its payload kept for 90 days, its id recognised when it comes again.

    Exit codes: 0 closed, also if it was already, 1 there is no such event or it is not dead, 2 wrong use.
    """
    from ..blueprints.admin.event_schemas import ClosedDeadLetterSchema
    from ..operations import Asked, Outcome, Running, perform
    from ..webhooks import reading

    def work(running: Running) -> Outcome:
        return reading.close(event_id, by=actor, note=note, also=running.complete)

    if dry_run:
        answer = reading.foretell_close(event_id).answer | {"dry_run": True}
    else:
        whose = reading.organization_of(event_id)
        asked = Asked("close_dead_letter", event_id, whose, actor, "cli", "cli dead-letters close", {}, note=note)
        answer = perform(asked, app.extensions["billing"].clock, work)[0].answer
    done = "would be closed" if dry_run else "closed"
    words = f"{event_id} {done}" if answer["changed"] else f"{event_id} was closed already"
    say(as_json, ClosedDeadLetterSchema().dump(answer), words)
