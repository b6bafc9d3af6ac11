"""Admin users from the command line. A password is asked for, or read from standard input; never an argument."""

import sys
from collections.abc import Callable
from typing import Any

import click
from flask import Flask

from .group import cli, say, with_app
from .terminal import checked, moment, note, plain, refusals_told


@cli.group()
def user() -> None:
    """Make, list and disable those who may sign in."""


def _email() -> Any:
    from ..blueprints.admin.users import email_field

    return email_field()


def change(command: Callable[..., Any]) -> Callable[..., Any]:
    """The arguments of a command that makes or changes a user."""
    for option in (
        click.argument("email", callback=checked(_email)),
        click.option("--json", "as_json", is_flag=True),
        click.option("--actor", default="cli", show_default=True, help="who the audit log names"),
        click.option("--note", callback=note, help="why; kept in the audit log"),
    ):
        command = option(command)
    return with_app(refusals_told(command))


@user.command()
@click.option("--role", "roles", multiple=True, required=True, help="several by repeating it")
@change
def create(app: Flask, email: str, roles: tuple[str, ...], note: str | None, actor: str, as_json: bool) -> None:
    """Make a user. Exit codes: 0 made, 1 refused (the reason is told), 2 wrong use or configuration."""
    from .. import identity
    from ..access import ROLES

    _require_key(app)
    unknown = sorted(set(roles) - set(ROLES))
    if unknown:
        raise click.UsageError(f"unknown role {', '.join(unknown)}; there are {', '.join(ROLES)}")
    email, named, password, now = email.lower(), sorted(set(roles)), _new_password(), app.extensions["billing"].clock()
    answer = _recorded(
        app,
        ("create_user", "users", actor, note),
        {"email": email, "roles": named},
        lambda also: identity.create(email, named, password, now=now, also=also),
    )
    _tell(as_json, answer)


@user.command()
@change
def disable(app: Flask, email: str, note: str | None, actor: str, as_json: bool) -> None:
    """Disable a user, the last admin too; all their tokens end at once.

    Exit codes: 0 disabled, also if they were, 1 refused (the reason is told), 2 wrong use or configuration.
    """
    _change(app, email, {"disabled": True}, note, actor, as_json)


@user.command()
@change
def enable(app: Flask, email: str, note: str | None, actor: str, as_json: bool) -> None:
    """Let a user sign in again, at once if failures held them up. Exit codes: 0 enabled, 1 refused, 2 wrong use."""
    _change(app, email, {"disabled": False}, note, actor, as_json)


@user.command()
@change
def password(app: Flask, email: str, note: str | None, actor: str, as_json: bool) -> None:
    """Set a user's password; all their tokens end at once. Exit codes: 0 set, 1 refused, 2 wrong use."""
    _require_key(app)
    _change(app, email, {"password": _new_password()}, note, actor, as_json)


@user.command("list")
@click.option("--json", "as_json", is_flag=True)
@with_app
@refusals_told
def list_users(app: Flask, as_json: bool) -> None:
    """List all users by e-mail. Exit codes: 0 listed, 1 the database does not answer, 2 wrong use."""
    from ..blueprints.admin.schemas import UserSchema
    from ..documents import AdminUser

    found = list(AdminUser.objects(email__gt="").order_by("email"))
    lines = [
        plain(f"{each.email}  {','.join(each.roles)}  {'disabled' if each.disabled else 'enabled'}")
        + f"  changed {moment(each.changed_at)}"
        for each in found
    ]
    say(as_json, {"users": UserSchema(many=True).dump(found)}, "\n".join(lines) or "no users")


def _change(app: Flask, email: str, wanted: dict[str, Any], note: str | None, actor: str, as_json: bool) -> None:
    from .. import identity
    from ..errors import UserNotFound

    _require_key(app)
    found, billing = identity.find_by_email(email), app.extensions["billing"]
    if found is None:
        raise UserNotFound("There is no user with this e-mail; billing-service user list shows all.")
    told = {name: value if name != "password" else "set" for name, value in wanted.items()}
    answer = _recorded(
        app,
        ("change_user", str(found.pk), actor, note),
        told,
        # Whoever may run commands can make tokens and users: nobody is locked out without an admin.
        lambda also: identity.change(found.pk, wanted, now=billing.clock(), also=also, keep_an_admin=False),
    )
    identity.forget_email(found.email, key=billing.settings.jwt_secret_key)
    _tell(as_json, answer)


def _recorded(
    app: Flask,
    what: tuple[str, str, str, str | None],
    body: dict[str, Any],
    work: Callable[[Callable[[Any], None]], Any],
) -> dict[str, Any]:
    from ..operations import Asked, perform

    kind, target, actor, note = what
    asked = Asked(kind, target, None, actor, "cli", f"cli {kind}", body, note=note)
    return perform(asked, app.extensions["billing"].clock, lambda running: work(running.complete))[0].answer


def _tell(as_json: bool, answer: dict[str, Any]) -> None:
    from ..blueprints.admin.users import UserChangeSchema

    updated = answer["updated"]
    state = "disabled" if updated["disabled"] else "enabled"
    changed = ", ".join(answer["changed"]) or "nothing"
    say(as_json, UserChangeSchema().dump(answer), plain(f"{updated['email']}: {state}; changed: {changed}"))


def _new_password() -> str:
    from marshmallow import ValidationError

    from ..blueprints.admin.users import password_field

    if sys.stdin.isatty():
        given = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        given = sys.stdin.readline().rstrip("\r\n")
    try:
        return password_field().deserialize(given)
    except ValidationError as error:
        raise click.UsageError(f"the password: {'; '.join(map(str, error.messages))}") from error


def _require_key(app: Flask) -> None:
    if not app.extensions["billing"].settings.jwt_secret_key:
        raise click.UsageError("tokens come from the issuer of JWT_PUBLIC_KEY or JWT_JWKS_URL; users are made there")
