"""Settings.from_env: everything that is unsafe is refused, all at once."""

import re
from pathlib import Path

import pytest

from billing_service.settings import SECRETS, STRIPE_API_BASE, Settings, UnsafeConfiguration

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
        ({"REDIS_URL": "redis://:pass:word@x:1:2/0"}, "REDIS_URL: host and port"),
        ({"REDIS_URL": "redis://[x/0"}, "REDIS_URL: host and port"),
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
        (STRIPE | {"STRIPE_SECRET_KEY": "sk_test_0123456789\n"}, "STRIPE_SECRET_KEY"),
        (STRIPE | {"STRIPE_SECRET_KEY": "sk_test_0123 456789"}, "STRIPE_SECRET_KEY"),
        ({"STRIPE_WEBHOOK_SECRETS": "whsec_0123456789abcdef\nwhsec_of_the_next_year"}, "STRIPE_WEBHOOK_SECRETS"),
        ({"BILLING_PLANS": "/nowhere/plans.toml"}, "BILLING_PLANS"),
        ({"BILLING_PLANS": "[[plans]] " * 500}, "BILLING_PLANS"),
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


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"JWT_SECRET_KEY_PREVIOUS": "short"}, "JWT_SECRET_KEY_PREVIOUS: needs at least 32 bytes"),
        (
            {
                "JWT_SECRET_KEY": "",
                "JWT_JWKS_URL": "https://issuer.example.com/keys",
                "JWT_ISSUER": "i",
                "JWT_AUDIENCE": "a",
                "JWT_SECRET_KEY_PREVIOUS": "j" * 40,
            },
            "JWT_SECRET_KEY_PREVIOUS: goes with JWT_SECRET_KEY only",
        ),
    ],
)
def test_a_previous_key_that_is_no_key_is_refused(more, named):
    assert problems(**more) == [named]


def test_slack_needs_no_secret():
    settings = Settings.from_env(SAFE | {"ALERT_WEBHOOK_URL": "https://hooks.slack.com/services/T0/B0/secret"})
    assert settings.alerts_in_words is True
    assert "services" not in repr(settings)


def test_what_is_like_slack_is_said_by_a_setting():
    url = {"ALERT_WEBHOOK_URL": "https://chat.example.com/hooks/secret", "ALERT_WEBHOOK_FORMAT": "slack"}
    assert Settings.from_env(SAFE | url).alerts_in_words is True
    slack_as_json = {"ALERT_WEBHOOK_URL": "https://hooks.slack.com/x", "ALERT_WEBHOOK_FORMAT": "json"}
    assert "ALERT_WEBHOOK_SECRET" in problems(**slack_as_json)[0]
    assert "ALERT_WEBHOOK_FORMAT" in problems(ALERT_WEBHOOK_FORMAT="xml")[0]


@pytest.mark.parametrize("given", ["9101", "host", ":9101", "host:", "host:0", "host:65536", "host:x", "host:-1"])
def test_where_metrics_are_shown_is_an_address_and_a_port(given):
    assert "METRICS_LISTEN" in problems(METRICS_LISTEN=given)[0]


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


@pytest.fixture
def file(tmp_path):
    """Makes a file of that content; returns its path."""

    def make(content: bytes) -> str:
        path = tmp_path / f"secret-{len(list(tmp_path.iterdir()))}"
        path.write_bytes(content)
        return str(path)

    return make


@pytest.mark.parametrize("name", SECRETS)
def test_each_secret_may_stand_in_a_file(file, name):
    values = {
        "MONGODB_URI": "mongodb://u:p@127.0.0.1/billing",
        "REDIS_URL": "redis://:p@127.0.0.1/1",
        "STRIPE_SECRET_KEY": "rk_test_2",
        "STRIPE_WEBHOOK_SECRETS": "whsec_0123456789abcdef,whsec_fedcba9876543210",
        "JWT_SECRET_KEY": "j" * 40,
        "JWT_PUBLIC_KEY": PEM + "\nMIIB\n-----END PUBLIC KEY-----",
        "EVENT_WEBHOOK_URL": "https://app.example.com/x",
        "ALERT_WEBHOOK_URL": "https://hooks.slack.com/services/T0/B0/secret",
    }
    value = values.get(name, "s" * 32)
    beside = {"JWT_ISSUER": "me", "JWT_AUDIENCE": "us", "EVENT_WEBHOOK_SECRET": "e" * 32} | STRIPE
    absent = {"JWT_PUBLIC_KEY": ("JWT_SECRET_KEY",)}.get(name, (name,))
    given = {each: text for each, text in (SAFE | beside).items() if each not in absent}
    stored = Settings.from_env(given | {f"{name}_FILE": file(value.encode() + b"\r\n\n")})
    typed = Settings.from_env(given | {name: value})
    assert getattr(stored, name.lower()) == getattr(typed, name.lower())
    assert stored == typed


def test_a_secret_that_stands_in_two_places_is_refused(file):
    (problem,) = problems(JWT_SECRET_KEY_FILE=file(b"j" * 40))
    assert problem == "JWT_SECRET_KEY, JWT_SECRET_KEY_FILE: only one of the two may be set"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "No such file"),
        (b"", "empty"),
        (b"\n\n", "empty"),
        (b"\xff\xfe1234", "UTF-8"),
        (b"j" * 70_000, "too large"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_and_is_the_only_problem(file, content, why):
    named = "/nowhere/whsec_0123456789abcdef" if content is None else file(content)
    with pytest.raises(UnsafeConfiguration) as refusal:
        Settings.from_env(SAFE | {"STRIPE_SECRET_KEY": "sk_test_1", "STRIPE_WEBHOOK_SECRETS_FILE": named})
    (problem,) = refusal.value.problems
    assert problem.startswith("STRIPE_WEBHOOK_SECRETS_FILE: ")
    assert why in problem
    # Who writes the secret where its path belongs must not find it in a log.
    assert named not in str(refusal.value)


def test_only_secrets_are_read_from_files(file):
    assert Settings.from_env(SAFE | {"LOG_LEVEL_FILE": file(b"DEBUG")}).log_level == "INFO"


def test_the_example_file_lists_what_may_stand_in_a_file():
    text = (Path(__file__).parents[2] / ".env.example").read_text()
    listed = text.partition("Both set is refused: ")[2].partition(".\n")[0]
    assert re.findall(r"[A-Z_]+", listed) == list(SECRETS)
