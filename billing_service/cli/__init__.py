"""The command line: every process and every runbook step is one of these commands.

Exit codes: 0 done, 1 the answer is "no" (see each command's help), 2 wrong use or configuration.
"""

import sys

import click

from ..plans import PlanFileError
from ..settings import UnsafeConfiguration
from . import (  # noqa: F401  (commands register themselves)
    batch_replaying,
    dead_letters,
    dispatching,
    doctoring,
    events,
    forgetting,
    importing,
    jobs,
    processes,
    reconciling,
    repairs,
    replaying,
    tokens,
    users,
)
from .group import cli


def main() -> None:
    """Run a command; a configuration that is refused is told in words, not as a traceback."""
    try:
        cli(standalone_mode=True)
    except (UnsafeConfiguration, PlanFileError) as error:
        click.echo(str(error), err=True)
        sys.exit(2)
