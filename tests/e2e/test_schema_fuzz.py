"""The running service under generated requests: no 5xx but while Stripe fails, and every answer as documented."""

import os
import time

import jwt
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.checks import not_a_server_error, positive_data_acceptance

from billing_service.sandbox.stripe.control import Control

LONG = os.environ.get("BILLING_TESTS") == "long"
SECONDS = 600.0 if LONG else 60.0
SEED = 20260101
KEY = "the key of these tests, sixty-four bytes or more, which is enough for any HMAC"
AWAY = (502, 503)
FAULTS = (
    {"kind": "error", "status": 500},
    {"kind": "drop"},
    {"kind": "rate_limited", "retry_after": 0},
    {"kind": "lock_timeout"},
    {"kind": "timeout_after", "seconds": 1.5},
)
FUZZ = settings(
    max_examples=100_000,
    deadline=None,
    database=None,
    print_blob=False,
    # The request that failed is told as it was; making it smaller would send hundreds more.
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def running(start):
    settings = {"JWT_SECRET_KEY": KEY, "MUTATIONS_PER_MINUTE": "1000000", "STRIPE_REQUESTS_PER_SECOND": "10000"}
    with start(STRIPE_READ_TIMEOUT="1.0", CANCEL_VERIFY_SECONDS="0.3", **settings) as it:
        it.sandbox = Control(it.told["stripeApiBase"])
        it.known = known_ids(it)
        it.operations = operations(it)
        yield it


def operations(running):
    document = schemathesis.openapi.from_url(f"{running.url}/api/openapi.json", wait_for_schema=20)
    found = [result.ok() for result in document.get_all_operations()]
    assert len(found) > 25
    return found


def known_ids(running):
    """Ids that are there, so that requests get further than to a 404."""

    def items(path):
        url = f"{running.url}/api/admin/billing/{path}"
        return requests.get(url, headers=running.headers, timeout=30).json().get("items", [])

    events = items("events?limit=100")
    organizations = sorted({each["orgId"] for each in events if each["orgId"]})
    charges = [each["id"] for org_id in organizations[:8] for each in items(f"charges?orgId={org_id}")]
    chosen = running.post("webhook/replay-batch?dryRun=true", {"limit": 1}).json()
    running.post("webhook/replay-batch", {"selection": chosen["selection"], "confirm": chosen["count"]})
    running.post("users", {"email": "fuzz@example.com", "password": "correct horse battery", "roles": ["support"]})
    running.post("reconcile", {"orgId": organizations[0]})
    replayed = next(each["eventId"] for each in events if each["state"] == "dead")
    known = {
        "orgId": organizations,
        "eventId": [each["eventId"] for each in events],
        "jobId": [running.post("webhook/replay", {"eventId": replayed}).json()["jobId"]],
        "batchId": [each["batchId"] for each in items("webhook/replay-batch")],
        "findingId": [each["id"] for each in items("findings")],
        "userId": [each["id"] for each in items("users")],
        "reconciliationId": [each["id"] for each in items("reconciliations")],
        "chargeId": charges,
        "until": [time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 86_400))],
    }
    assert all(known.values()), known
    return known


def token(number):
    """Each operation has a token of its own: signing out ends it."""
    now = int(time.time())
    claims = {"sub": f"fuzz-{number}", "billing_roles": ["admin"], "iat": now, "nbf": now, "exp": now + 3_600}
    claims |= {"jti": f"fuzz-{number}-{now}", "type": "access", "fresh": False}
    return {"Authorization": f"Bearer {jwt.encode(claims, KEY, algorithm='HS256')}"}


def fuzz(running, seconds, allowed):
    """Send generated requests to every operation, each for its share of the time; the statuses by operation."""
    share, found = seconds / len(running.operations), {}
    for number, operation in enumerate(running.operations):
        statuses = found[operation.label] = []
        send(running, operation, token(number), statuses, time.monotonic() + share)
        wrong = {status for status in statuses if status >= 500} - set(allowed)
        assert not wrong, (operation.label, wrong)
        assert statuses, operation.label
    return found


def send(running, operation, headers, statuses, until):
    @seed(SEED)
    @FUZZ
    @given(case=operation.as_strategy())
    def ask(case):
        if statuses and time.monotonic() > until:
            raise TimeIsUp
        if len(statuses) % 2:  # every second time ones that are there
            for name, values in running.known.items():
                for given in (case.path_parameters, case.query, case.body):
                    if values and isinstance(given, dict) and name in given:
                        given[name] = values[len(statuses) // 2 % len(values)]
        # Refusing what the schema allows is the rules' business (an unknown organization, a forged cursor).
        excluded = [positive_data_acceptance, not_a_server_error]  # the statuses are looked at by themselves
        answer = case.call_and_validate(headers=headers, timeout=30, excluded_checks=excluded)
        statuses.append(answer.status_code)

    try:
        ask()
    except TimeIsUp:
        pass
    except BaseExceptionGroup as several:
        if several.subgroup(lambda each: not isinstance(each, TimeIsUp)):
            raise


class TimeIsUp(Exception):
    """The operation had its share of the time."""


@pytest.mark.timeout(SECONDS * 3 + 120)
def test_every_generated_request_gets_a_documented_answer(running):
    found = fuzz(running, SECONDS, allowed=())
    asked = sum(map(len, found.values()))
    assert asked > 10 * len(found), asked
    unread = [label for label, statuses in found.items() if label.startswith("GET ") and 200 not in statuses]
    assert not unread


@pytest.mark.timeout(SECONDS * 3 + 120)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault["kind"])
def test_while_stripe_fails_only_that_is_told(running, fault):
    running.sandbox.arm(times=None, **fault)
    try:
        found = fuzz(running, SECONDS / 12, allowed=AWAY)
    finally:
        running.sandbox.disarm()
    assert not {500, 504} & {status for statuses in found.values() for status in statuses}
