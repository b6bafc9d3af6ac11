"""Settings.from_env: everything that is unsafe is refused, all at once."""

import re
from pathlib import Path

import pytest

from billing_service.settings import STRIPE_API_BASE, Settings, UnsafeConfiguration

SAFE = {
    "MONGODB_URI": "mongodb://127.0.0.1/billing?replicaSet=rs0",
    "REDIS_URL": "redis://127.0.0.1/0",
    "JWT_SECRET_KEY": "k" * 32,
}
PEM = "-----BEGIN PUBLIC KEY-----"
STRIPE = {"STRIPE_SECRET_KEY": "sk_test_1", "STRIPE_WEBHOOK_SECRETS": "whsec_0123456789abcdef"}


def problems(**changes: str) -> list[str]:
    with pytest.raises(UnsafeConfiguration) as refusal:
        Settings.from_env(SAFE | changes)
    return refusal.value.problems


def test_the_least_is_enough():
    settings = Settings.from_env(SAFE)
    assert settings.stripe_api_base == STRIPE_API_BASE
    assert settings.webhook_retry_delays == (10, 60, 300, 1800)
    assert settings.meter_mode is False


def test_values_are_read_by_type():
    given = {"WEBHOOK_RETRY_DELAYS": "1, 2,3", "METER_MODE": "true", "STRIPE_REQUESTS_PER_SECOND": "100"}
    settings = Settings.from_env(SAFE | STRIPE | given)
    assert settings.webhook_retry_delays == (1, 2, 3)
    assert settings.meter_mode is True
    assert settings.requests_per_second == 100.0


def test_the_budgets_default_follows_the_mode():
    live = STRIPE | {"STRIPE_SECRET_KEY": "sk_live_1"}
    assert Settings.from_env(SAFE | STRIPE).requests_per_second == 10
    assert Settings.from_env(SAFE | live).requests_per_second == 25


def test_nothing_given_names_everything_that_is_missing():
    with pytest.raises(UnsafeConfiguration) as refusal:
        Settings.from_env({})
    text = str(refusal.value)
    assert all(name in text for name in ("MONGODB_URI", "REDIS_URL", "JWT_SECRET_KEY"))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"MONGODB_URI": "postgres://x"}, "MONGODB_URI"),
        ({"REDIS_URL": "http://x"}, "REDIS_URL"),
        ({"JWT_SECRET_KEY": "short"}, "JWT_SECRET_KEY"),
        ({"JWT_PUBLIC_KEY": "-----BEGIN"}, "exactly one"),
        ({"JWT_SECRET_KEY": "", "JWT_JWKS_URL": "https://id.example.com/jwks", "JWT_AUDIENCE": "me"}, "JWT_ISSUER"),
        ({"JWT_SECRET_KEY": "", "JWT_PUBLIC_KEY": PEM, "JWT_ISSUER": "me"}, "JWT_AUDIENCE"),
        ({"STRIPE_SECRET_KEY": "sk_test_1"}, "STRIPE_WEBHOOK_SECRETS"),
        ({"JWT_SECRET_KEY": "", "JWT_PUBLIC_KEY": "x"}, "PEM"),
        (STRIPE | {"STRIPE_WEBHOOK_SECRETS": "whsec_1"}, "STRIPE_WEBHOOK_SECRETS"),
        (STRIPE | {"STRIPE_SECRET_KEY": "pk_test_1"}, "STRIPE_SECRET_KEY"),
        (STRIPE | {"STRIPE_SECRET_KEY": "sk_live_1", "STRIPE_API_BASE": "http://127.0.0.1:1"}, "STRIPE_API_BASE"),
        ({"STRIPE_API_BASE": "http://stripe.example.com"}, "plain http"),
        ({"EVENT_WEBHOOK_URL": "http://10.0.0.1/x", "EVENT_WEBHOOK_SECRET": "k" * 32}, "plain http"),
        ({"ALERT_WEBHOOK_URL": "ftp://x", "ALERT_WEBHOOK_SECRET": "k" * 32}, "ALERT_WEBHOOK_URL"),
        ({"EVENT_WEBHOOK_URL": "https://[bad", "EVENT_WEBHOOK_SECRET": "k" * 32}, "EVENT_WEBHOOK_URL: is not"),
        ({"EVENT_WEBHOOK_URL": "https://app.example.com/x"}, "EVENT_WEBHOOK_SECRET"),
        ({"ALERT_WEBHOOK_URL": "https://example.com/hooks.slack.com"}, "ALERT_WEBHOOK_SECRET"),
        ({"ALERT_WEBHOOK_URL": "https://x.example.com", "ALERT_WEBHOOK_SECRET": "k" * 31}, "ALERT_WEBHOOK_SECRET"),
        ({"BILLING_PLANS": "/nowhere/plans.toml"}, "BILLING_PLANS"),
        ({"WEBHOOK_RETRY_DELAYS": "soon"}, "WEBHOOK_RETRY_DELAYS"),
        ({"RECONCILE_CONFIRM_SECONDS": "-1"}, "RECONCILE_CONFIRM_SECONDS"),
        ({"STRIPE_READ_TIMEOUT": "30"}, "STRIPE_READ_TIMEOUT"),
        ({"TRUSTED_PROXIES": "-1"}, "TRUSTED_PROXIES"),
        ({"TRUSTED_PROXIES": "10.0.0.1"}, "TRUSTED_PROXIES"),
        ({"LOG_LEVEL": "LOUD"}, "LOG_LEVEL"),
        ({"STRIPE_LOG": "debug"}, "STRIPE_LOG"),
    ],
)
def test_what_is_unsafe_is_refused_by_name(changes, named):
    found = problems(**changes)
    assert len(found) == 1
    assert named in found[0]


def test_limits_of_refunds_are_read_by_role():
    assert Settings.from_env(SAFE).max_refund_amounts == {}
    settings = Settings.from_env(SAFE | {"MAX_REFUND_AMOUNTS": "billing-ops=50000, admin = 0"})
    assert settings.max_refund_amounts == {"billing-ops": 50_000, "admin": 0}


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("billing-ops", "role=minor units"),
        ("billing-ops=", "role=minor units"),
        ("billing-ops=-1", "role=minor units"),
        ("billing-ops=1.5", "role=minor units"),
        ("billing-ops=1e3", "role=minor units"),
        ("billing-ops=" + "9" * 13, "role=minor units"),
        ("billing-ops=1,", "role=minor units"),
        ("billing-ops=1,billing-ops=2", "twice"),
        ("boss=1", "'boss' is no role that may refund"),
        ("support=1", "'support' is no role that may refund"),
    ],
)
def test_a_limit_that_would_not_hold_is_refused(given, named):
    (problem,) = problems(MAX_REFUND_AMOUNTS=given)
    assert problem.startswith("MAX_REFUND_AMOUNTS: ")
    assert named in problem


def test_slack_needs_no_secret():
    settings = Settings.from_env(SAFE | {"ALERT_WEBHOOK_URL": "https://hooks.slack.com/services/T0/B0/secret"})
    assert settings.alerts_in_words is True
    assert "services" not in repr(settings)


def test_all_problems_come_in_one_list():
    assert len(problems(MONGODB_URI="x", REDIS_URL="y", LOG_LEVEL="z")) == 3


def test_secrets_are_not_in_the_representation():
    shown = repr(Settings.from_env(SAFE | STRIPE))
    assert "sk_test_1" not in shown
    assert "whsec" not in shown
    assert "k" * 32 not in shown


def test_every_setting_is_in_the_example_file():
    example = Path(__file__).parents[2] / ".env.example"
    named = set(re.findall(r"^([A-Z_]+)=", example.read_text(), re.MULTILINE))
    declared = {name.upper() for name in Settings.__dataclass_fields__}
    assert named == declared
