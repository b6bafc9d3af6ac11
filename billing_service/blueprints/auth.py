"""Signing in and out, where this service makes its own tokens; who one is, whoever made the token.

The routes are open: they check what they are sent.
"""

import ipaddress
from datetime import UTC, datetime
from typing import Any

from flask import after_this_request, g, request
from flask_jwt_extended import get_jwt_request_location
from marshmallow import fields

from .. import identity, tokens
from ..access import Identity, refund_limit
from ..documents import AdminUser
from ..errors import LoginNotAvailable, LoginRefused, RefreshReused, Unauthorized
from ..observability import log
from ..runtime import runtime
from .cookies import has_access_cookie, set_cookies, unset_cookies
from .guard import verify_token
from .wire import ApiBlueprint, Instant, Wire, text

blueprint = ApiBlueprint("auth", __name__, url_prefix="/api/auth", description="Sign in and out")


class LoginBody(Wire):
    email = text(most=200, required=True)
    password = text(most=identity.LONGEST, required=True, load_only=True)
    cookies = fields.Boolean(
        load_default=False,
        metadata={"description": "for pages: tokens in cookies that no script reads, not in the answer"},
    )


class SignedInSchema(Wire):
    id = fields.String()
    email = fields.String()
    roles = fields.List(fields.String())


class PairSchema(Wire):
    """The tokens, unless cookies have them, and when they end."""

    token_type = fields.String()
    access_token = fields.String()
    refresh_token = fields.String(metadata={"description": "gets the next pair, once"})
    expires_at = Instant()
    refresh_expires_at = Instant(metadata={"description": "the end of the session: twelve hours after signing in"})
    user = fields.Nested(SignedInSchema)


class MeSchema(Wire):
    """Who the token stands for, and what pages need to know to offer only what will be allowed."""

    actor = fields.String(metadata={"description": "the name in the audit log"})
    user = fields.Nested(
        SignedInSchema, allow_none=True, metadata={"description": "null: the token was made by nobody's sign-in"}
    )
    roles = fields.List(fields.String())
    permissions = fields.List(fields.String())
    max_refund_amount = fields.Integer(
        allow_none=True, metadata={"description": "the most of a charge, in minor units; null: no limit"}
    )
    requires_note = fields.Boolean(metadata={"description": "mutations without a note are refused"})
    livemode = fields.Boolean(metadata={"description": "whether ids of Stripe's are of the live mode"})
    expires_at = Instant(metadata={"description": "of the token that was sent"})


@blueprint.before_request
def refuse_without_key() -> None:
    """Refuse where tokens come from an issuer."""
    if request.method != "OPTIONS" and request.endpoint != "auth.show_me" and not runtime.settings.jwt_secret_key:
        raise LoginNotAvailable("Tokens come from the issuer of JWT_PUBLIC_KEY or JWT_JWKS_URL: sign in there.")


@blueprint.post("/login")
@blueprint.arguments(Wire, location="query")
@blueprint.arguments(LoginBody)
@blueprint.response(200, PairSchema)
@blueprint.doc(security=[])
def login(query: dict, body: dict) -> dict[str, Any]:
    """Sign in with e-mail and password."""
    email, key = body["email"].lower(), runtime.settings.jwt_secret_key
    attempt = identity.claim(email, client_address(), key=key, now=runtime.clock())
    user, why = identity.sign_in(email, body["password"])
    if user is None:
        log.info("login_failed", reason=why)
        raise LoginRefused("The e-mail or the password is wrong, or the user is disabled.")
    identity.succeeded(attempt, runtime.clock())
    g.actor = user.email
    pair = tokens.begin_session(runtime.settings, user, runtime.clock())
    log.info("login", user=str(user.pk), cookies=body["cookies"])
    return _handed_over(pair, user, in_cookies=body["cookies"])


@blueprint.post("/refresh")
@blueprint.arguments(Wire, location="query")
@blueprint.arguments(Wire)
@blueprint.response(200, PairSchema)
def refresh(query: dict, body: dict) -> dict[str, Any]:
    """Take the next pair of tokens for a refresh token, which is used up."""
    # A used one must get past the guard, to be known as such.
    claims = verify_token(refresh=True, skip_revocation_check=True)
    user = identity.refreshing(claims)
    if user is None:
        raise Unauthorized("The session has ended or the user was changed: sign in again.")
    if not identity.use_once(claims, now=runtime.clock()):
        log.warning("refresh_token_reused", user=str(user.pk))
        raise RefreshReused(
            "This refresh token was used before. Two have it, so the whole session was ended: sign in again."
        )
    g.actor = user.email
    pair = tokens.continue_session(runtime.settings, user, claims, runtime.clock())
    return _handed_over(pair, user, in_cookies=get_jwt_request_location() == "cookies")


@blueprint.post("/logout")
@blueprint.arguments(Wire, location="query")
@blueprint.arguments(Wire)
@blueprint.response(204)
def logout(query: dict, body: dict) -> None:
    """Sign out: end the access or refresh token that is sent, and its whole session."""
    claims = verify_token(refresh=not has_access_cookie(), verify_type=False, skip_revocation_check=True)
    identity.revoke(claims, now=runtime.clock())
    g.actor = claims["sub"]
    after_this_request(unset_cookies)


@blueprint.get("/me")
@blueprint.arguments(Wire, location="query")
@blueprint.response(200, MeSchema)
def show_me(query: dict) -> dict[str, Any]:
    """Tell who the token stands for and what it allows."""
    claims = verify_token()
    settings, me = runtime.settings, Identity.from_claims(claims, runtime.settings.jwt_roles_claim)
    g.actor = me.actor

    @after_this_request
    def finish(response: Any) -> Any:
        response.headers["Cache-Control"] = "no-store"
        return response

    signed_in = {"id": claims.get(identity.USER), "email": me.actor, "roles": list(me.roles)}
    return {
        "actor": me.actor,
        "user": signed_in if identity.USER in claims else None,
        "roles": list(me.roles),
        "permissions": sorted(me.permissions),
        "max_refund_amount": refund_limit(me.roles, settings.max_refund_amounts),
        "requires_note": settings.require_note,
        "livemode": settings.livemode,
        "expires_at": datetime.fromtimestamp(claims["exp"], UTC),
    }


def client_address() -> str:
    """Where the request came from: the connection's address, or what the outermost of TRUSTED_PROXIES was told.

    Of IPv6 the network, since whoever has one address has all of it.
    """
    hops = runtime.settings.trusted_proxies
    told = [each.strip() for line in request.headers.getlist("X-Forwarded-For") for each in line.split(",")]
    for given in (told[-hops] if 0 < hops <= len(told) else "", request.remote_addr or ""):
        try:
            address = ipaddress.ip_address(given)
        except ValueError:
            continue
        if isinstance(address, ipaddress.IPv6Address):
            return str(address.ipv4_mapped or ipaddress.ip_network((address.packed, 64), strict=False))
        return str(address)
    return "unknown"


def _handed_over(pair: tokens.Pair, user: AdminUser, *, in_cookies: bool) -> dict[str, Any]:
    @after_this_request
    def finish(response: Any) -> Any:
        response.headers["Cache-Control"] = "no-store"
        return set_cookies(response, pair, runtime.clock()) if in_cookies else response

    shown = {
        "token_type": "Bearer",
        "expires_at": pair.access_ends_at,
        "refresh_expires_at": pair.refresh_ends_at,
        "user": {"id": user.pk, "email": user.email, "roles": list(user.roles)},
    }
    return shown if in_cookies else shown | {"access_token": pair.access, "refresh_token": pair.refresh}
