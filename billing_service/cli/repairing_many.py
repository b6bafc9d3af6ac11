"""What `billing-service sync` of many prints while it goes, and at its end."""

import json
import sys
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

import click
from flask import Flask

from .terminal import plain

TELL_SECONDS = 10.0
RESULTS = ("changed", "unchanged", "refused", "failed")


def sync_many(
    app: Flask,
    finding_kind: str | None,
    status: str | None,
    apply: bool,
    *,
    stop_after: int,
    note: str | None,
    actor: str,
    as_json: bool,
) -> None:
    """Sync each that is selected, tell of it, and exit with 1 if one was refused or failed."""
    from .. import startup
    from ..subscriptions import bulk_sync

    billing = app.extensions["billing"]
    startup.check(billing)
    selection = {"finding_kind": finding_kind} if finding_kind else {"status": str(status)}
    desk = bulk_sync.Desk(billing.stripe, billing.plans, billing.clock, actor, note, selection)
    if finding_kind:
        chosen, unnamed = bulk_sync.organizations_with_finding(finding_kind), bulk_sync.count_unnamed(finding_kind)
    else:
        chosen, unnamed = bulk_sync.organizations_with_status(str(status)), 0
    each = bulk_sync.sync_each(chosen, desk, apply=apply, stop_after=stop_after)
    told = _tell_each(each, apply, as_json) | {"unnamed": unnamed, "applied": apply}
    click.echo(json.dumps({"summary": told}) if as_json else _summary_words(told))
    sys.exit(int(bool(told["refused"] or told["failed"] or told["stopped"])))


def _tell_each(results: Iterable[Any], apply: bool, as_json: bool) -> dict[str, Any]:
    """Print each that is not as it should be; returns the counts."""
    counts: Counter[str] = Counter()
    stopped, told_at = None, time.monotonic()
    try:
        for each in results:
            counts[each.result] += 1
            stopped = "failures" if each.stops else None
            if as_json:
                click.echo(json.dumps(_document(each), default=str))
            elif each.result != "unchanged":
                click.echo(_line(each, apply))
            if time.monotonic() - told_at >= TELL_SECONDS:
                told_at = time.monotonic()
                click.echo(f"{counts.total()} looked at", err=True)
    except KeyboardInterrupt:
        stopped = "interrupted"
    return {"organizations": counts.total(), **{name: counts[name] for name in RESULTS}, "stopped": stopped}


def _document(each: Any) -> dict[str, Any]:
    from ..blueprints.wire import camel

    changed = {camel(name): {"stored": before, "live": after} for name, (before, after) in each.fields.items()}
    told = {"orgId": str(each.organization), "result": each.result, "changed": changed}
    return told | ({"code": each.code, "detail": each.detail} if each.code else {})


def _line(each: Any, apply: bool) -> str:
    if each.code:
        return plain(f"{each.organization}  {each.result}  {each.code}: {each.detail}")
    fields = ", ".join(f"{name}: {before} -> {after}" for name, (before, after) in each.fields.items())
    return plain(f"{each.organization}  {'changed' if apply else 'would change'}  {fields}")


def _summary_words(told: dict[str, Any]) -> str:
    changed = "changed" if told["applied"] else "would change"
    lines = [
        f"{told['organizations']} organizations: {told['changed']} {changed}, {told['unchanged']} in step, "
        f"{told['refused']} refused, {told['failed']} failed"
    ]
    if told["unnamed"]:
        lines.append(f"{told['unnamed']} findings name no organization: find whose it is, then link")
    if told["stopped"]:
        why = "too many failures in a row" if told["stopped"] == "failures" else "interrupted"
        lines.append(f"Stopped: {why}. Run it again to go on.")
    elif told["changed"] and not told["applied"]:
        lines.append("Nothing was written. To do it: the same with --apply.")
    return "\n".join(lines)
