"""Who calls, and may they: one permission per route, checked before query and body are read."""

from collections.abc import Callable
from typing import Any, TypeVar

from flask import Blueprint, current_app, g, request
from flask_jwt_extended import get_jwt, verify_jwt_in_request
from flask_jwt_extended.exceptions import CSRFError
from jwt import InvalidTokenError, PyJWTError
from marshmallow import ValidationError

from ..access import PERMISSIONS, Identity
from ..errors import CsrfRejected, Forbidden, InvalidRequest, Unauthorized
from ..runtime import runtime
from .wire import EventId, parse_object_id, parse_org_id

View = TypeVar("View", bound=Callable[..., Any])


def requires(permission: str) -> Callable[[View], View]:
    """Name the one permission of a route."""
    assert permission in PERMISSIONS, permission

    def mark(view: View) -> View:
        view.permission = permission  # type: ignore[attr-defined]
        return view

    return mark


def permission_of(endpoint: str) -> str | None:
    """The permission that the route of this endpoint requires."""
    return getattr(current_app.view_functions[endpoint], "permission", None)


def protect(blueprint: Blueprint) -> None:
    """Refuse every call of the blueprint's routes without a token or without the route's permission."""

    @blueprint.before_request
    def check() -> Any:
        # Flask-JWT-Extended exempts it. Answered here, no view is reached: what is allowed, and nothing else.
        if request.method == "OPTIONS":
            return current_app.make_default_options_response()
        verify_token()
        identity = Identity.from_claims(get_jwt(), runtime.settings.jwt_roles_claim)
        g.identity, g.actor = identity, identity.actor
        permission = permission_of(request.endpoint or "")
        if permission is None or permission not in identity.permissions:
            roles = ", ".join(identity.roles) or "none"
            raise Forbidden(f"This needs the permission {permission}; your roles ({roles}) do not include it.")
        _read_path()
        return None


def verify_token(**how: Any) -> dict[str, Any]:
    """The claims of the request's token; `how` as Flask-JWT-Extended takes it. An access token, if nothing is said."""
    try:
        verify_jwt_in_request(**how)
        return get_jwt()
    except CSRFError as error:
        raise CsrfRejected(
            "With a cookie, send the value of csrf_access_token (to refresh: csrf_refresh_token) in the header "
            "X-CSRF-TOKEN."
        ) from error
    except InvalidTokenError:
        raise
    except (PyJWTError, ValueError, TypeError, OverflowError, AttributeError, RecursionError) as error:
        # Claims and headers of kinds that PyJWT does not expect, or a key that is not of the token's algorithm.
        raise Unauthorized("The token cannot be read.") from error


_READERS: dict[str, tuple[str, str, Callable[[Any], Any]]] = {
    "orgId": ("org_id", "organization", parse_org_id),
    "userId": ("user_id", "user", parse_object_id),
    "findingId": ("finding_id", "finding", parse_object_id),
    "reconciliationId": ("reconciliation_id", "reconciliation", parse_object_id),
    "eventId": ("event_id", "event", EventId().deserialize),
    "jobId": ("job_id", "job", str),
    "batchId": ("batch_id", "batch", parse_object_id),
}


def _read_path() -> None:
    arguments = request.view_args or {}
    for spelled, (name, noun, parse) in _READERS.items():
        if spelled in arguments:
            try:
                arguments[name] = parse(arguments.pop(spelled))
            except ValidationError as error:
                raise InvalidRequest(f"The {noun} id is malformed.", errors={spelled: error.messages}) from error
