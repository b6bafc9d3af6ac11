"""What the service is told by its environment, checked once, all problems in one list.

Only `create_app` and the command line hand the environment in; nothing below reads it.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from marshmallow import EXCLUDE, Schema, ValidationError, validate
from marshmallow import fields as ma

from .access import ROLES
from .secret_files import read_secrets

STRIPE_API_BASE = "https://api.stripe.com"
SLACK_HOSTS = ("hooks.slack.com", "hooks.slack-gov.com")
SAMPLE_PLANS = Path(__file__).parent / "sample_plans.toml"


class UnsafeConfiguration(Exception):
    """The environment is incomplete or unsafe; `problems` lists everything found."""

    def __init__(self, problems: list[str]):
        super().__init__("The service does not start:\n" + "\n".join(f"  - {each}" for each in problems))
        self.problems = problems


class Words(ma.Field):
    """A comma separated list; `each` turns one word into its value."""

    def __init__(self, each: Any = str, **kwargs: Any):
        super().__init__(**kwargs)
        self.each = each

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> tuple:
        try:
            return tuple(self.each(word.strip()) for word in value.split(",") if word.strip())
        except ValueError as error:
            raise ValidationError("is not a comma separated list of the right kind") from error


class Limits(ma.Field):
    """A comma separated list of `role=minor units`."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Mapping[str, int]:
        limits: dict[str, int] = {}
        for word in value.split(","):
            role, equals, amount = (part.strip() for part in word.partition("="))
            if not (equals and amount.isascii() and amount.isdigit() and len(amount) <= 12):
                raise ValidationError(f"{word.strip()!r} is not role=minor units, such as billing-ops=50000")
            if "refund:create" not in ROLES.get(role, ()):
                raise ValidationError(f"{role!r} is no role that may refund")
            if role in limits:
                raise ValidationError(f"{role!r} is there twice")
            limits[role] = int(amount)
        return limits


@dataclass(frozen=True)
class Settings:
    """The settings; each is the upper-case variable of the same name.

    Secrets are kept out of `repr`, and may stand in a file that the variable with `_FILE` behind its name names.
    """

    mongodb_uri: str = field(metadata={"as": ma.String(required=True)}, repr=False)
    redis_url: str = field(metadata={"as": ma.String(required=True)}, repr=False)
    stripe_secret_key: str = field(default="", metadata={"as": ma.String()}, repr=False)
    stripe_webhook_secrets: tuple[str, ...] = field(default=(), metadata={"as": Words()}, repr=False)
    stripe_api_base: str = field(default=STRIPE_API_BASE, metadata={"as": ma.String()})
    stripe_requests_per_second: float | None = field(
        default=None, metadata={"as": ma.Float(validate=validate.Range(min=0.1, max=10_000))}
    )
    stripe_connect_timeout: float = field(
        default=3.0, metadata={"as": ma.Float(validate=validate.Range(min=0.05, max=9))}
    )
    # Below the doubt of ten seconds that a fetched snapshot is given (see subscriptions/).
    stripe_read_timeout: float = field(default=8.0, metadata={"as": ma.Float(validate=validate.Range(min=0.05, max=9))})
    jwt_secret_key: str = field(default="", metadata={"as": ma.String()}, repr=False)
    # Still accepted and no more signed with, while tokens of it are about.
    jwt_secret_key_previous: str = field(default="", metadata={"as": ma.String()}, repr=False)
    jwt_public_key: str = field(default="", metadata={"as": ma.String()}, repr=False)
    jwt_jwks_url: str = field(default="", metadata={"as": ma.String()})
    jwt_issuer: str = field(default="", metadata={"as": ma.String()})
    jwt_audience: str = field(default="", metadata={"as": ma.String()})
    jwt_roles_claim: str = field(default="billing_roles", metadata={"as": ma.String()})
    billing_plans: Path = field(default=SAMPLE_PLANS, metadata={"as": ma.String()})
    meter_mode: bool = field(default=False, metadata={"as": ma.Boolean()})
    webhook_retry_delays: tuple[int, ...] = field(default=(10, 60, 300, 1800), metadata={"as": Words(int)})
    reconcile_confirm_seconds: int = field(default=60, metadata={"as": ma.Integer(validate=validate.Range(min=0))})
    dunning_days: int = field(default=14, metadata={"as": ma.Integer(validate=validate.Range(min=0, max=365))})
    grace_days: int = field(default=7, metadata={"as": ma.Integer(validate=validate.Range(min=0, max=365))})
    require_note: bool = field(default=False, metadata={"as": ma.Boolean()})
    mutations_per_minute: int = field(default=300, metadata={"as": ma.Integer(validate=validate.Range(min=1))})
    # The address that failed sign-ins are counted by: anybody can write X-Forwarded-For, proxies append to it.
    trusted_proxies: int = field(default=0, metadata={"as": ma.Integer(validate=validate.Range(min=0, max=10))})
    cancel_verify_seconds: float = field(
        default=6.0, metadata={"as": ma.Float(validate=validate.Range(min=0.1, max=60))}
    )
    # By role, in minor units of whatever currency the charge is in; a role that is not named has no limit.
    max_refund_amounts: Mapping[str, int] = field(default_factory=dict, metadata={"as": Limits()})
    # Slack's addresses are secrets, and others' may have a password in them.
    event_webhook_url: str = field(default="", metadata={"as": ma.String()}, repr=False)
    event_webhook_secret: str = field(default="", metadata={"as": ma.String()}, repr=False)
    alert_webhook_url: str = field(default="", metadata={"as": ma.String()}, repr=False)
    alert_webhook_secret: str = field(default="", metadata={"as": ma.String()}, repr=False)
    # Empty: by the address, as Slack's own is known.
    alert_webhook_format: str = field(
        default="", metadata={"as": ma.String(validate=validate.OneOf(["json", "slack"]))}
    )
    # Address and port for the metrics of worker and scheduler; the web process has a path for its own.
    metrics_listen: str = field(default="", metadata={"as": ma.String()})
    # What the world calls us; the doctor compares it with the webhook endpoint at Stripe.
    public_url: str = field(default="", metadata={"as": ma.String()})
    web_workers: int = field(default=2, metadata={"as": ma.Integer(validate=validate.Range(min=1))})
    web_threads: int = field(default=8, metadata={"as": ma.Integer(validate=validate.Range(min=1))})
    log_level: str = field(
        default="INFO",
        metadata={"as": ma.String(validate=validate.OneOf(["DEBUG", "INFO", "WARNING", "ERROR"]))},
    )

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> "Settings":
        """Read and check the environment; raises UnsafeConfiguration with every problem."""
        given, unread = read_secrets(environ, SECRETS)
        problems: list[str] = []
        try:
            values = _schema().load(given)
        except ValidationError as error:
            named = error.normalized_messages()
            problems += [f"{name}: {_words(messages)}" for name, messages in sorted(named.items())]
            values = error.valid_data
        values["billing_plans"] = Path(values.get("billing_plans", SAMPLE_PLANS))
        values.setdefault("mongodb_uri", "")
        values.setdefault("redis_url", "")
        settings = cls(**values)
        problems += [problem for check in CHECKS for problem in check(settings)]
        if given.get("STRIPE_LOG"):
            problems.append("STRIPE_LOG: the SDK would print whole answers, personal data included; unset it")
        # That a value is missing says less than why its file was not read.
        problems = [*unread.values(), *(each for each in problems if not _names_of(each) & unread.keys())]
        if problems:
            raise UnsafeConfiguration(problems)
        return settings

    @property
    def livemode(self) -> bool:
        return "_live_" in self.stripe_secret_key

    @property
    def alerts_in_words(self) -> bool:
        """Whether alerts are a text, as Slack and what is like it take; those verify no signature."""
        if self.alert_webhook_format:
            return self.alert_webhook_format == "slack"
        return urlsplit(self.alert_webhook_url).hostname in SLACK_HOSTS

    @property
    def requests_per_second(self) -> float:
        """Stripe requests per second of the whole installation; the account's limit is shared with the SaaS."""
        return self.stripe_requests_per_second or (25.0 if self.livemode else 10.0)


SECRETS = tuple(each.name.upper() for each in fields(Settings) if not each.repr)


def _names_of(problem: str) -> set[str]:
    return set(problem.partition(":")[0].split(", "))


def _schema() -> Schema:
    declared: dict[str, Any] = {}
    for each in fields(Settings):
        declared[each.name] = each.metadata["as"]
        declared[each.name].data_key = each.name.upper()
    return Schema.from_dict(declared)(unknown=EXCLUDE)


def _words(messages: Any) -> str:
    return " ".join(messages) if isinstance(messages, list) else str(messages)


def _is_local(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_stores(settings: Settings) -> list[str]:
    problems = []
    if settings.mongodb_uri and not settings.mongodb_uri.startswith(("mongodb://", "mongodb+srv://")):
        problems.append("MONGODB_URI: must start with mongodb:// or mongodb+srv://")
    if settings.redis_url and not settings.redis_url.startswith(("redis://", "rediss://", "unix://")):
        problems.append("REDIS_URL: must start with redis://, rediss:// or unix://")
    elif not _is_readable_address(settings.redis_url):
        problems.append("REDIS_URL: host and port cannot be read; percent-encode user and password")
    return problems


def _has_blanks(text: str) -> bool:
    return any(each.isspace() for each in text)


def _check_stripe(settings: Settings) -> list[str]:
    problems = []
    key = settings.stripe_secret_key
    if key and not key.startswith(("sk_test_", "sk_live_", "rk_test_", "rk_live_")):
        problems.append("STRIPE_SECRET_KEY: must be a secret or restricted key (sk_… or rk_…), not a publishable one")
    if _has_blanks(key):
        problems.append("STRIPE_SECRET_KEY: has a blank or a line break in it, which no key has")
    if settings.livemode and settings.stripe_api_base.rstrip("/") != STRIPE_API_BASE:
        problems.append("STRIPE_API_BASE: a live key is only ever sent to " + STRIPE_API_BASE)
    if key and not settings.stripe_webhook_secrets:
        problems.append("STRIPE_WEBHOOK_SECRETS: needed with STRIPE_SECRET_KEY (whsec_…, several by comma)")
    if any(_has_blanks(secret) for secret in settings.stripe_webhook_secrets):
        problems.append("STRIPE_WEBHOOK_SECRETS: a secret has a blank or a line break in it; several go by comma")
    if any(len(secret) < 16 for secret in settings.stripe_webhook_secrets):
        problems.append("STRIPE_WEBHOOK_SECRETS: a secret is shorter than 16 characters")
    return problems


def _is_readable_address(url: str) -> bool:
    try:
        _ = urlsplit(url).port
    except ValueError:
        return False
    return True


def _is_web_address(url: str) -> bool:
    try:
        return urlsplit(url).scheme in ("http", "https") and bool(urlsplit(url).hostname)
    except ValueError:  # such as a bracket that is not closed
        return False


def _check_urls(settings: Settings) -> list[str]:
    problems = []
    for name in ("public_url", "stripe_api_base", "jwt_jwks_url", "event_webhook_url", "alert_webhook_url"):
        url = getattr(settings, name)
        if not url:
            continue
        if not _is_web_address(url):
            problems.append(f"{name.upper()}: is not an http(s) address")
        elif urlsplit(url).scheme == "http" and not _is_local(url):
            problems.append(f"{name.upper()}: plain http to another machine is refused, use https")
    return problems


def _check_receivers(settings: Settings) -> list[str]:
    problems = []
    for name, unsigned in (("event_webhook", False), ("alert_webhook", settings.alerts_in_words)):
        url, secret = getattr(settings, f"{name}_url"), getattr(settings, f"{name}_secret")
        if url and not secret and not unsigned:
            problems.append(f"{name.upper()}_SECRET: needed with {name.upper()}_URL, receivers verify signals by it")
        elif secret and len(secret) < 32:
            problems.append(f"{name.upper()}_SECRET: needs at least 32 characters")
    return problems


def _check_metrics(settings: Settings) -> list[str]:
    host, _, port = settings.metrics_listen.rpartition(":")
    fits = bool(host) and port.isascii() and port.isdigit() and 0 < int(port) < 65_536
    return [] if fits or not settings.metrics_listen else ["METRICS_LISTEN: is not address:port, such as 0.0.0.0:9101"]


def _check_tokens(settings: Settings) -> list[str]:
    given = [name for name in ("jwt_secret_key", "jwt_public_key", "jwt_jwks_url") if getattr(settings, name)]
    if len(given) != 1:
        return ["JWT_SECRET_KEY, JWT_PUBLIC_KEY, JWT_JWKS_URL: exactly one of the three must be set"]
    if given == ["jwt_secret_key"]:
        return [
            f"{name.upper()}: needs at least 32 bytes"
            for name in ("jwt_secret_key", "jwt_secret_key_previous")
            if 0 < len(getattr(settings, name).encode()) < 32
        ]
    if settings.jwt_secret_key_previous:
        return ["JWT_SECRET_KEY_PREVIOUS: goes with JWT_SECRET_KEY only"]
    if given == ["jwt_public_key"] and "PUBLIC KEY-----" not in settings.jwt_public_key:
        return ["JWT_PUBLIC_KEY: is not a PEM public key (-----BEGIN PUBLIC KEY-----)"]
    return [
        f"{name.upper()}: required with {given[0].upper()}"
        for name in ("jwt_issuer", "jwt_audience")
        if not getattr(settings, name)
    ]


def _check_plans(settings: Settings) -> list[str]:
    try:
        found = settings.billing_plans.is_file()
    except OSError:  # a name that cannot be one, or a folder that must not be looked into
        found = False
    return [] if found else [f"BILLING_PLANS: there is no file {str(settings.billing_plans)[:200]}"]


CHECKS = (_check_stores, _check_stripe, _check_urls, _check_receivers, _check_metrics, _check_tokens, _check_plans)
