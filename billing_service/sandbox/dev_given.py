"""Which parts of the system the environment gives to `billing-service dev`, checked before anything starts."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import redis
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from billing_service.sandbox.dev_child import CannotStart

STRIPE_API_BASE = "https://api.stripe.com"
ANSWER_SECONDS = 5


@dataclass(frozen=True)
class Given:
    """What is used instead of being started; None is ours to start."""

    mongodb_uri: str | None
    redis_url: str | None
    stripe_secret_key: str | None
    stripe_api_base: str | None
    webhook_secret: str | None
    has_foreign_tokens: bool


def read(environ: Mapping[str, str]) -> Given:
    """What the environment says; raises CannotStart when it says half of something."""

    def value(name: str) -> str | None:
        return environ.get(name, "").strip() or None

    key, base, secrets = value("STRIPE_SECRET_KEY"), value("STRIPE_API_BASE"), value("STRIPE_WEBHOOK_SECRETS")
    if base and not key:
        raise CannotStart("STRIPE_API_BASE is set and STRIPE_SECRET_KEY is not: set both, or neither for the sandbox.")
    if key and not secrets:
        raise CannotStart(
            "STRIPE_SECRET_KEY is set, so STRIPE_WEBHOOK_SECRETS must be too: the signing secret (whsec_…) of the"
            " webhook endpoint that you made at Stripe for this service; none is made for you."
        )
    return Given(
        mongodb_uri=value("MONGODB_URI"),
        redis_url=value("REDIS_URL"),
        stripe_secret_key=key,
        stripe_api_base=(base or STRIPE_API_BASE) if key else None,
        webhook_secret=secrets.split(",")[0].strip() if key and secrets else None,
        has_foreign_tokens=bool(value("JWT_PUBLIC_KEY") or value("JWT_JWKS_URL")),
    )


def check(given: Given) -> None:
    """See that the given servers answer; raises CannotStart for the one that does not."""
    if given.mongodb_uri:
        _check_mongodb(given.mongodb_uri)
    if given.redis_url:
        _check_redis(given.redis_url)


def _check_mongodb(uri: str) -> None:
    try:
        client: MongoClient = MongoClient(uri, serverSelectionTimeoutMS=ANSWER_SECONDS * 1000)
        with client:
            hello = client.admin.command("hello")
    except PyMongoError as error:
        raise CannotStart(f"MONGODB_URI: no MongoDB answers at {_where(uri)} ({type(error).__name__}).") from error
    if "setName" not in hello and hello.get("msg") != "isdbgrid":
        raise CannotStart(f"MONGODB_URI: the server at {_where(uri)} is not a replica set, so it has no transactions.")


def _check_redis(url: str) -> None:
    timeouts = {"socket_connect_timeout": ANSWER_SECONDS, "socket_timeout": ANSWER_SECONDS}
    try:
        with redis.Redis.from_url(url, **timeouts) as client:
            client.ping()
    except (redis.RedisError, ValueError) as error:
        raise CannotStart(f"REDIS_URL: no Redis answers at {_where(url)} ({type(error).__name__}).") from error


def _where(url: str) -> str:
    """The address without user and password."""
    return urlsplit(url).netloc.rpartition("@")[2] or urlsplit(url).path
