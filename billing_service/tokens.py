"""How tokens are checked and, with a shared secret, made."""

import hashlib
import json
import threading
import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt as pyjwt
import requests
from flask_jwt_extended import JWTManager, create_access_token, create_refresh_token

from . import identity
from .documents import AdminUser
from .errors import IssuerUnavailable, Unauthorized
from .observability import log
from .settings import Settings

ACCESS_MINUTES = 15
ASYMMETRIC = {"RS256": "RSA", "ES256": "EC"}
LONGEST_ACTOR = 200

# For pages of this origin. Scripts read only the CSRF values, which every unsafe method must send back.
COOKIES = {
    "JWT_TOKEN_LOCATION": ["headers", "cookies"],
    "JWT_ACCESS_COOKIE_PATH": "/api/",
    "JWT_REFRESH_COOKIE_PATH": "/api/auth/",
    "JWT_CSRF_METHODS": ["POST", "PUT", "PATCH", "DELETE"],
}

FETCH_SECONDS = 5.0
LARGEST_KEY_SET = 1024 * 1024


def configuration(settings: Settings) -> dict[str, Any]:
    """Flask-JWT-Extended's configuration: one algorithm family, never the one that the token names."""
    config: dict[str, Any] = {
        "JWT_ACCESS_TOKEN_EXPIRES": timedelta(minutes=ACCESS_MINUTES),
        "JWT_DECODE_LEEWAY": 10,
        "JWT_ENCODE_ISSUER": settings.jwt_issuer or None,
        "JWT_DECODE_ISSUER": settings.jwt_issuer or None,
        "JWT_ENCODE_AUDIENCE": settings.jwt_audience or None,
        "JWT_DECODE_AUDIENCE": settings.jwt_audience or None,
    }
    if settings.jwt_secret_key:
        own = {"JWT_ALGORITHM": "HS256", "JWT_SECRET_KEY": settings.jwt_secret_key}
        return config | own | COOKIES
    return config | {
        "JWT_TOKEN_LOCATION": ["headers"],
        "JWT_ALGORITHM": "RS256",
        "JWT_DECODE_ALGORITHMS": list(ASYMMETRIC),
        "JWT_PUBLIC_KEY": settings.jwt_public_key or "fetched from JWT_JWKS_URL",
    }


@dataclass
class KeySet:
    """The issuer's published keys: fetched when first needed, when they are old, and when a token names another.

    Times are seconds. Anybody can name unknown keys, so after a look that did not find one (or that failed) the
    issuer is not asked again for a while; keys that it once gave serve until `oldest` while it is away.
    """

    url: str
    fresh: float = 3600.0
    oldest: float = 86400.0
    pause: float = 10.0
    _keys: dict[str, pyjwt.PyJWK] = field(default_factory=dict, init=False)
    _fetched_at: float = field(default=float("-inf"), init=False)
    _asks_from: float = field(default=float("-inf"), init=False)
    _trouble: str | None = field(default=None, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def key_of(self, header: dict[str, Any], payload: dict[str, Any]) -> Any:
        """The key that the token's `kid` names. Raises InvalidTokenError and IssuerUnavailable."""
        kid, kind = header.get("kid"), ASYMMETRIC.get(str(header.get("alg")))
        if not isinstance(kid, str) or not kid or kind is None:
            raise pyjwt.InvalidTokenError("The token names no key, or an algorithm that is not allowed.")
        key = self._keys.get(kid)
        if key is None or self._age() > self.fresh:
            with self._lock:
                key = self._looked_up(kid)
        if key.key_type != kind:
            raise pyjwt.InvalidTokenError("The key is not of the token's algorithm.")
        return key.key

    def _age(self) -> float:
        return time.monotonic() - self._fetched_at

    def _looked_up(self, kid: str) -> pyjwt.PyJWK:
        # Another thread may have fetched while this one waited for the lock.
        wanted = kid not in self._keys or self._age() > self.fresh
        if wanted and time.monotonic() >= self._asks_from:
            self._fetch()
            if self._trouble or kid not in self._keys:
                self._asks_from = time.monotonic() + self.pause
        if kid in self._keys and self._age() <= self.oldest:
            return self._keys[kid]
        if self._trouble:
            raise IssuerUnavailable(
                f"The token cannot be checked: the issuer's keys (JWT_JWKS_URL) {self._trouble}. Try again.",
                retry_after=max(1.0, self._asks_from - time.monotonic()),
            )
        raise pyjwt.InvalidTokenError("The token's key is not among the issuer's.")

    def _fetch(self) -> None:
        try:
            self._keys = _usable(_download(self.url))
            self._fetched_at, self._trouble = time.monotonic(), None
        except (requests.RequestException, OSError) as error:
            self._trouble = f"cannot be fetched ({type(error).__name__})"
        except (ValueError, RecursionError) as error:
            self._trouble = f"cannot be used: {error}"
        if self._trouble:
            log.error("issuer_unavailable", url=self.url, trouble=self._trouble)


def _download(url: str) -> bytes:
    until, content = time.monotonic() + FETCH_SECONDS, b""
    # A redirect could lead to plain http or into the own network.
    with requests.get(url, timeout=FETCH_SECONDS, stream=True, allow_redirects=False) as answer:
        if answer.status_code != 200:
            raise ValueError(f"the answer has status {answer.status_code}")
        for part in answer.iter_content(8192):
            content += part
            if len(content) > LARGEST_KEY_SET or time.monotonic() > until:
                raise ValueError("the answer is too large or too slow")
    return content


def _usable(content: bytes) -> dict[str, pyjwt.PyJWK]:
    """The keys to verify with by their ids; raises ValueError if there is none."""
    try:
        listed = json.loads(content)["keys"]
        candidates = [each for each in listed if isinstance(each, dict)]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError("the answer is no JSON key set") from error
    found = {}
    for each in candidates:
        try:
            key = pyjwt.PyJWK(each)
        except Exception as error:  # of a kind that is not known here; the others may do
            log.warning("issuer_key_unusable", error=type(error).__name__)
            continue
        kid, fits = key.key_id, key.public_key_use in ("sig", None) and key.key_type in ASYMMETRIC.values()
        if isinstance(kid, str) and kid and fits:
            found[kid] = key
    if not found:
        raise ValueError("the answer lists no RSA or EC key with a `kid` that is for signatures")
    return found


def register(jwt: JWTManager, settings: Settings) -> None:
    """Check what every token must have; find the key that it is verified with."""
    jwt.token_verification_loader(_has_an_end_and_an_actor)
    if settings.jwt_secret_key:
        jwt.token_in_blocklist_loader(lambda header, payload: identity.is_revoked(payload))
        _take_turns(jwt, settings.jwt_secret_key, settings.jwt_secret_key_previous)
    if settings.jwt_jwks_url:
        jwt.decode_key_loader(KeySet(settings.jwt_jwks_url).key_of)


def _take_turns(jwt: JWTManager, current: str, previous: str) -> None:
    """Sign with the current secret; tokens that name the previous one are verified with that."""
    own, older = _name_of(current), _name_of(previous) if previous else None
    jwt.additional_headers_loader(lambda identity: {"kid": own})
    jwt.decode_key_loader(lambda header, payload: previous if older and header.get("kid") == older else current)


def _name_of(secret: str) -> str:
    """What tokens call a secret by: it tells nothing of it that their signatures do not."""
    return hashlib.sha256(b"name of the key " + secret.encode()).hexdigest()[:12]


def _has_an_end_and_an_actor(header: dict[str, Any], payload: dict[str, Any]) -> bool:
    if "exp" not in payload:
        raise Unauthorized("The token has no `exp`; one that never ends is not accepted.")
    # The subject becomes the actor in the audit log: it must be one that can be stored and read.
    actor = payload.get("sub")
    if not isinstance(actor, str) or not 0 < len(actor) <= LONGEST_ACTOR or not actor.isprintable() or actor.isspace():
        raise Unauthorized(f"The token's `sub` must be 1 to {LONGEST_ACTOR} printable characters.")
    return True


def issue(settings: Settings, actor: str, roles: list[str], minutes: float) -> str:
    """Make a token of these roles; raises ValueError without JWT_SECRET_KEY: the issuer's keys are not ours."""
    if not settings.jwt_secret_key:
        raise ValueError(
            "tokens come from the issuer of JWT_PUBLIC_KEY or JWT_JWKS_URL; this service has no key to sign"
        )
    return create_access_token(
        identity=actor,
        additional_claims={settings.jwt_roles_claim: roles},
        expires_delta=timedelta(minutes=minutes),
    )


def ends_at(token: str) -> datetime:
    """The end of a token that was just made."""
    return datetime.fromtimestamp(pyjwt.decode(token, options={"verify_signature": False})["exp"], UTC)


@dataclass(frozen=True)
class Pair:
    """What a session goes on with: the token for calls, and the one that gets the next pair, once."""

    access: str = field(repr=False)
    refresh: str = field(repr=False)
    access_ends_at: datetime
    refresh_ends_at: datetime


def begin_session(settings: Settings, user: AdminUser, now: datetime) -> Pair:
    """Make the first tokens after a sign-in."""
    return _pair(settings, user, uuid.uuid4().hex, now, now + identity.SESSION_LASTS)


def continue_session(settings: Settings, user: AdminUser, claims: dict[str, Any], now: datetime) -> Pair:
    """Make the next tokens of a refresh token's session; they end with it."""
    return _pair(settings, user, claims[identity.SESSION], now, datetime.fromtimestamp(claims["exp"], UTC))


def _pair(settings: Settings, user: AdminUser, session: str, now: datetime, ends_at: datetime) -> Pair:
    access_ends_at = min(now + timedelta(minutes=ACCESS_MINUTES), ends_at)
    bound = {identity.USER: str(user.pk), identity.VERSION: user.version, identity.SESSION: session}
    roles = {settings.jwt_roles_claim: list(user.roles)}
    return Pair(
        access=create_access_token(user.email, additional_claims=bound | roles, expires_delta=access_ends_at - now),
        refresh=create_refresh_token(user.email, additional_claims=bound, expires_delta=ends_at - now),
        access_ends_at=access_ends_at,
        refresh_ends_at=ends_at,
    )
