"""How tokens are checked and, with a shared secret, made."""

from datetime import timedelta
from functools import cached_property
from typing import Any

import jwt as pyjwt
from flask_jwt_extended import JWTManager, create_access_token

from .settings import Settings

ACCESS_MINUTES = 15
ASYMMETRIC = ["RS256", "ES256"]


def configuration(settings: Settings) -> dict[str, Any]:
    """Flask-JWT-Extended's configuration: one algorithm family, never the one that the token names."""
    config: dict[str, Any] = {
        "JWT_TOKEN_LOCATION": ["headers"],
        "JWT_ACCESS_TOKEN_EXPIRES": timedelta(minutes=ACCESS_MINUTES),
        "JWT_DECODE_LEEWAY": 10,
        "JWT_ENCODE_ISSUER": settings.jwt_issuer or None,
        "JWT_DECODE_ISSUER": settings.jwt_issuer or None,
        "JWT_ENCODE_AUDIENCE": settings.jwt_audience or None,
        "JWT_DECODE_AUDIENCE": settings.jwt_audience or None,
    }
    if settings.jwt_secret_key:
        return config | {"JWT_ALGORITHM": "HS256", "JWT_SECRET_KEY": settings.jwt_secret_key}
    return config | {
        "JWT_ALGORITHM": "RS256",
        "JWT_DECODE_ALGORITHMS": ASYMMETRIC,
        "JWT_PUBLIC_KEY": settings.jwt_public_key or "fetched from JWT_JWKS_URL",
    }


class KeySet:
    """The issuer's published keys, fetched when first needed and again when a token names an unknown one."""

    def __init__(self, url: str):
        self.url = url

    @cached_property
    def client(self) -> pyjwt.PyJWKClient:
        return pyjwt.PyJWKClient(self.url, cache_keys=True, lifespan=3600, timeout=5)

    def key_of(self, header: dict[str, Any], payload: dict[str, Any]) -> Any:
        """The key that the token's `kid` names; raises InvalidTokenError."""
        try:
            return self.client.get_signing_key(header.get("kid", "")).key
        except pyjwt.PyJWKClientError as error:
            raise pyjwt.InvalidTokenError("The token's key is not known.") from error


def register(jwt: JWTManager, settings: Settings) -> None:
    """Take the verification key from the issuer where JWT_JWKS_URL is set."""
    if settings.jwt_jwks_url:
        jwt.decode_key_loader(KeySet(settings.jwt_jwks_url).key_of)


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
