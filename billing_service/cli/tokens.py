"""Tokens for the API."""

import click
from flask import Flask

from .group import cli, say, with_app
from .terminal import moment


@cli.command()
@click.option("--role", "roles", multiple=True, default=["admin"], show_default=True)
@click.option("--minutes", default=60.0, show_default=True, type=click.FloatRange(0.1, 60 * 24 * 30))
@click.option("--actor", default="cli", show_default=True, help="the token's subject: who the audit log names")
@click.option("--json", "as_json", is_flag=True)
@with_app
def token(app: Flask, roles: tuple[str, ...], minutes: float, actor: str, as_json: bool) -> None:
    """Make a token with JWT_SECRET_KEY. Exit code 2: unknown role, or the tokens come from another issuer."""
    from .. import tokens
    from ..access import ROLES

    unknown = sorted(set(roles) - set(ROLES))
    if unknown:
        raise click.UsageError(f"unknown role {', '.join(unknown)}; there are {', '.join(ROLES)}")
    try:
        made = tokens.issue(app.extensions["billing"].settings, actor, list(roles), minutes)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    say(as_json, {"token": made, "expiresAt": moment(tokens.ends_at(made))}, made)
