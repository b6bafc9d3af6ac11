"""Admin users: listed, made, changed. Passwords come in and are never stored, recorded or shown."""

from typing import Any

from bson import ObjectId
from marshmallow import ValidationError, fields, validate

from ... import identity, tokens
from ...access import ROLES
from ...documents import EPOCH, AdminUser
from ...errors import InvalidRequest, LoginNotAvailable
from ...operations import Outcome, Running
from ...runtime import runtime
from ..guard import requires
from ..paging import page
from ..wire import DryRunQuery, FieldName, MutationHeaders, NoteBody, Page, PageQuery, Wire, one_of, text
from . import blueprint
from .mutations import mutate
from .schemas import UserSchema


def _is_address(value: str) -> None:
    # It becomes the subject of tokens. A long one is not even looked at.
    if len(value) > tokens.LONGEST_ACTOR or not value.isprintable():
        raise ValidationError(f"must be at most {tokens.LONGEST_ACTOR} printable characters")
    validate.Email()(value)


def email_field(**kwargs: Any) -> fields.String:
    """The e-mail of a user."""
    return fields.String(
        validate=_is_address, metadata={"format": "email", "maxLength": tokens.LONGEST_ACTOR}, **kwargs
    )


def roles_field(**kwargs: Any) -> fields.List:
    """The roles of a user."""
    return fields.List(one_of(ROLES), validate=validate.Length(min=1, max=len(ROLES)), **kwargs)


def password_field(**kwargs: Any) -> fields.String:
    """A new password, which is read and never shown."""
    return text(least=identity.SHORTEST, most=identity.LONGEST, load_only=True, **kwargs)


class NewUserBody(NoteBody):
    email = email_field(required=True)
    password = password_field(required=True)
    roles = roles_field(required=True)


class UserBody(NoteBody):
    roles = roles_field()
    disabled = fields.Boolean()
    password = password_field()


class UserChangeSchema(Wire):
    previous = fields.Nested(UserSchema, allow_none=True)
    updated = fields.Nested(UserSchema)
    changed = fields.List(FieldName())
    dry_run = fields.Boolean()


class UsersPage(Page):
    items = fields.List(fields.Nested(UserSchema))


@blueprint.get("/users")
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, UsersPage)
@requires("user:write")
def list_users(query: dict[str, Any]) -> dict[str, Any]:
    """List admin users, the newest first."""
    return page(
        AdminUser.objects(created_at__gte=EPOCH), key="created_at", limit=query["limit"], cursor=query.get("cursor")
    )


@blueprint.post("/users")
@blueprint.arguments(MutationHeaders, location="headers")
@blueprint.arguments(DryRunQuery, location="query")
@blueprint.arguments(NewUserBody)
@blueprint.response(201, UserChangeSchema)
@blueprint.alt_response(200, schema=UserChangeSchema, description="a dry run: what would change")
@requires("user:write")
def create_user(headers: dict, query: dict, body: dict) -> Any:
    """Make an admin user."""
    _refuse_without_key()
    email, roles, password = body["email"].lower(), sorted(set(body["roles"])), body["password"]

    def work(running: Running) -> Outcome:
        return identity.create(email, roles, password, now=runtime.clock(), also=running.complete)

    answer = mutate(
        "create_user",
        "users",
        headers | query,
        {"email": email, "roles": roles, "note": body.get("note")},
        foretell=lambda: identity.foretell_create(email, roles, password),
        work=work,
        sealed=_sealed(body),
    )
    return (answer, 200) if query["dry_run"] else answer


@blueprint.patch("/users/<userId>")
@blueprint.arguments(MutationHeaders, location="headers")
@blueprint.arguments(DryRunQuery, location="query")
@blueprint.arguments(UserBody)
@blueprint.response(200, UserChangeSchema)
@requires("user:write")
def change_user(headers: dict, query: dict, body: dict, user_id: ObjectId) -> Any:
    """Change a user's roles or password, disable or enable; the user's tokens end at once."""
    _refuse_without_key()
    wanted = {name: body[name] for name in ("roles", "disabled", "password") if name in body}
    if not wanted:
        raise InvalidRequest("Nothing to change was sent.", errors={"_schema": ["needs roles, disabled or password"]})
    if "roles" in wanted:
        wanted["roles"] = sorted(set(wanted["roles"]))
    told = {name: value if name != "password" else "set" for name, value in wanted.items()}

    def work(running: Running) -> Outcome:
        return identity.change(user_id, wanted, now=runtime.clock(), also=running.complete)

    answer = mutate(
        "change_user",
        str(user_id),
        headers | query,
        told | {"note": body.get("note")},
        foretell=lambda: identity.foretell_change(user_id, wanted),
        work=work,
        sealed=_sealed(body),
    )
    if not query["dry_run"]:
        identity.forget_email(answer[0]["updated"]["email"], key=runtime.settings.jwt_secret_key)
    return answer


def _sealed(body: dict[str, Any]) -> dict[str, str]:
    key = runtime.settings.jwt_secret_key
    return {"password": identity.digest(body["password"], key)} if "password" in body else {}


def _refuse_without_key() -> None:
    if not runtime.settings.jwt_secret_key:
        raise LoginNotAvailable("Tokens come from the issuer: make, change and disable users there.")
