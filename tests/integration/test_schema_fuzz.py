"""The API under generated requests: no 500, and every answer as the OpenAPI document says."""

import os

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import positive_data_acceptance

LONG = os.environ.get("BILLING_TESTS") == "long"
MANY = settings(
    max_examples=1_000 if LONG else 60,
    deadline=None,
    derandomize=not LONG,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def statuses(operation, headers):
    """Send generated requests to one operation; the statuses answered, each answer checked against the document."""
    found = []

    @MANY
    @given(case=operation.as_strategy())
    def ask(case):
        # Refusing what the schema allows is the rules' business (an unknown organization, a forged cursor).
        answer = case.call_and_validate(headers=headers, excluded_checks=[positive_data_acceptance])
        found.append(answer.status_code)

    ask()
    return found


@pytest.mark.timeout(3600)  # the long run takes minutes
def test_every_generated_request_gets_a_documented_answer(app, token, billed):
    billed("pro")
    document = schemathesis.openapi.from_wsgi("/api/openapi.json", app)
    operations = [result.ok() for result in document.get_all_operations()]
    assert len(operations) >= 6
    for operation in operations:
        # Each has a token of its own: signing out ends it.
        found = statuses(operation, token("admin"))
        assert found
        assert not {status for status in found if status >= 500}, operation.label
