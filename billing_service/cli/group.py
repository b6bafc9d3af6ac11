"""The group that every command belongs to, and what commands share."""

import json
from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from .. import __version__, create_app


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """Operate a SaaS's billing beside Stripe."""


def with_app(command: Callable[..., Any]) -> Callable[..., Any]:
    """Run the command inside the application's context, configured by the environment."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        from .. import observability

        app = create_app(serves=False)
        observability.configure(app.extensions["billing"].settings.log_level)
        with app.app_context():
            return command(app, *args, **kwargs)

    return run


def say(as_json: bool, document: dict[str, Any], words: str) -> None:
    """Print a result for a program or for a person."""
    click.echo(json.dumps(document, default=str) if as_json else words)
