"""What counts as an outage, and what is told of a failure."""

import pytest
from mongoengine.errors import OperationError
from pymongo.errors import AutoReconnect, OperationFailure

from billing_service import errors
from billing_service.webhooks.failures import fingerprint_of, is_outage, message_of


def caused(error, cause):
    error.__cause__ = cause
    return error


COLLISION = OperationFailure("write conflict", 112, {"errorLabels": ["TransientTransactionError"]})


@pytest.mark.parametrize(
    "error",
    [
        errors.StripeUnavailable(),
        errors.StripeRateLimited(),
        errors.StripeCircuitOpen(),
        errors.StripeIdempotencyConflict(),
        errors.StripeMisconfigured(),
        errors.StripeNotConfigured(),
        errors.Conflict(),
        AutoReconnect("gone"),
        caused(OperationError("hidden"), AutoReconnect("gone")),
        COLLISION,
        caused(OperationError("hidden"), COLLISION),
    ],
)
def test_outages(error):
    assert is_outage(error)


@pytest.mark.parametrize(
    "error",
    [
        KeyError("items"),
        errors.StripeMissing(),
        errors.StripeRejected(),
        errors.MissingUnproven(),
        errors.CustomerShared(),
        OperationError("bad"),
        OperationFailure("bad", 2),
    ],
)
def test_failures_of_the_event_itself(error):
    assert not is_outage(error)


def test_secrets_and_length():
    assert "sk_test_abcdefghijkl" not in message_of(ValueError("key sk_test_abcdefghijkl"))
    assert len(message_of(ValueError("x" * 5000))) == 1000
    assert message_of(ValueError("\ud800")) == "?"


def test_a_fingerprint_has_no_ids_and_no_numbers():
    assert fingerprint_of(ValueError("price_1NabcdEF for 12 in 0123456789abcdef01234567")) == "ValueError: # for # in #"


def test_addresses_are_not_kept():
    error = ValueError("No such customer: 'ada.lovelace+1@example.com' (cus_12345678)")
    assert message_of(error) == "No such customer: '[e-mail]' (cus_12345678)"
    assert fingerprint_of(error) == "ValueError: No such customer: '[e-mail]' (#)"
