"""Is everything set up as it should be? Told so that it can be read at three in the morning."""

import sys
from itertools import groupby
from typing import Any

import click

from .group import cli, say
from .terminal import plain

EXIT_CODES = {"ok": 0, "warning": 1, "error": 2}


@cli.command()
@click.option("--all", "everything", is_flag=True, help="list what is well, too")
@click.option("--json", "as_json", is_flag=True)
def doctor(everything: bool, as_json: bool) -> None:
    """Look at configuration, Stripe, MongoDB, Redis, processes and what waits. Nothing is written.

    Each finding has a stable code, and says what is wrong, why it matters and what to do (docs/doctor.md). Exit codes:
    0 all is well, 1 warnings, 2 errors, also when the service could not start.
    """
    report = _examined()
    say(as_json, _document(report), _words(report, everything))
    sys.exit(EXIT_CODES[report.severity])


def _examined() -> Any:
    from .. import create_app, observability
    from ..doctor import examine, refused
    from ..plans import PlanFileError
    from ..settings import UnsafeConfiguration

    # The findings say it in words.
    observability.configure("CRITICAL")
    try:
        app = create_app(serves=False)
    except UnsafeConfiguration as refusal:
        return refused("configuration_refused", refusal.problems)
    except PlanFileError as refusal:
        return refused("plan_file_refused", refusal.problems)
    return examine(app.extensions["billing"])


def _document(report: Any) -> dict[str, Any]:
    counts = {name: report.count(name) for name in ("error", "warning", "ok")}
    return {"severity": report.severity, "counts": counts, "findings": [each.facts() for each in report.findings]}


def _words(report: Any, everything: bool) -> str:
    lines: list[str] = []
    for code, alike in groupby((each for each in report.findings if each.severity != "ok"), lambda each: each.code):
        found = list(alike)
        lines += [f"{found[0].severity.upper():<9}{code}", *(f"  what  {plain(each.what)}" for each in found)]
        lines += [f"  why   {found[0].why}", f"  do    {found[0].do}", ""]
    if everything:
        lines += [f"OK       {each.check}: {plain(each.what)}" for each in report.findings if each.severity == "ok"]
    return "\n".join([*lines, f"{report.count('ok')} checks ok"])
