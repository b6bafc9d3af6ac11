"""The calendar's jobs from the command line: what ran, what is due next, and running one now."""

import sys
from typing import Any

import click
from flask import Flask

from .group import cli, say, with_app
from .terminal import moment, plain, refusals_told


@cli.group()
def jobs() -> None:
    """Look at the calendar's jobs, and run one now."""


@jobs.command("list")
@click.option("--json", "as_json", is_flag=True)
@with_app
@refusals_told
def list_jobs(app: Flask, as_json: bool) -> None:
    """List each job with its next time and its last run. Exit codes: 0 listed, 1 the database does not answer."""
    from ..jobs.schedule import SCHEDULE

    now = app.extensions["billing"].clock()
    found = [_described(row, now) for row in SCHEDULE]
    say(as_json, {"jobs": found}, "\n".join(_line(each) for each in found))


@jobs.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True)
@with_app
@refusals_told
def run(app: Flask, name: str, as_json: bool) -> None:
    """Run a job of the calendar now, here, whatever its schedule says, and tell what it did.

    Twice at once is harmless. Exit codes: 0 done, 1 it failed or waits for Stripe (the sweep goes on), 2 no such job.
    """
    from ..jobs.schedule import SCHEDULE, row_of
    from ..jobs.tick import run_here

    row = row_of(name.replace("-", "_"))
    if row is None:
        raise click.UsageError(f"no job {name!r}; there are {', '.join(each.job for each in SCHEDULE)}")
    slot = f"{app.extensions['billing'].clock():%Y%m%dT%H%M%S}-cli"
    state = _state(run_here(row, slot))
    say(as_json, state, f"{row.job}: {state['state']} {_words(state['summary'])} {state['error'] or ''}".rstrip())
    sys.exit(0 if state["state"] == "succeeded" else 1)


def _described(row: Any, now: Any) -> dict[str, Any]:
    from ..documents import JobRun

    last = JobRun.objects(job=row.job).order_by("-claimed_at").first()
    due = {"job": row.job, "cron": row.cron, "nextAt": moment(row.next_slot(now))}
    return due | {"last": _state(last) if last else None}


def _state(found: Any) -> dict[str, Any]:
    times = {name: moment(getattr(found, name)) for name in ("started_at", "finished_at")}
    return {
        "slot": found.slot,
        "state": found.state,
        "attempt": found.attempt,
        "startedAt": times["started_at"],
        "finishedAt": times["finished_at"],
        "summary": dict(found.summary),
        "error": found.error,
    }


def _line(each: dict[str, Any]) -> str:
    last = each["last"]
    told = (
        f"{last['state']} {last['startedAt']} {_words(last['summary'])} {last['error'] or ''}" if last else "never ran"
    )
    return plain(f"{each['job']:<16}{each['cron']:<14}next {each['nextAt']}   {told}").rstrip()


def _words(summary: dict[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in summary.items())
