"""A database of its own with a ledger of as many events as an account has in ninety days, a tenth of them dead."""

import contextlib
import os
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from bson import ObjectId

from billing_service.sandbox import dev_processes

from .installation import Installation
from .scale import Scale

LOT = 10_000
TYPES = ("customer.subscription.updated", "invoice.paid", "charge.refunded", "customer.deleted")
FINGERPRINTS = 200
DAYS = 90
INDEX_SECONDS = 900
# The first organization has one of so many events, the others share the rest.
OF_THE_FIRST = 100


@contextlib.contextmanager
def filled(installation: Installation, scale: Scale) -> Iterator[str]:
    """The URI of the database while it is needed: the others measured with an almost empty ledger."""
    begun = time.perf_counter()
    with emptied(installation, "letters", with_indexes=False) as uri:
        events = installation.database.client["letters"].webhook_events
        for lot in _lots(installation, scale.ledger_events):
            events.insert_many(lot, ordered=False)
        # Afterwards: built at once they take a fraction of what each insert would pay for them.
        make_indexes(installation, uri)
        print(f"A ledger of {scale.ledger_events:,} events, {scale.ledger_events // 10:,} of them dead")
        print(f"  {'filled in':<34}{time.perf_counter() - begun:7.0f} s")
        yield uri


@contextlib.contextmanager
def emptied(installation: Installation, name: str, *, with_indexes: bool = True) -> Iterator[str]:
    """The URI of a database with nothing in it, which is gone afterwards."""
    uri = installation.environment["MONGODB_URI"].replace("/billing?", f"/{name}?")
    if with_indexes:
        make_indexes(installation, uri)
    try:
        yield uri
    finally:
        installation.database.client.drop_database(name)


def make_indexes(installation: Installation, uri: str) -> None:
    """`billing-service indexes`."""
    environment = os.environ | installation.environment | {"MONGODB_URI": uri}
    made = dev_processes.indexes(installation.folder / "indexes-of-ledger.log", environment)
    made.start()
    assert made.process is not None
    assert made.process.wait(INDEX_SECONDS) == 0, made.log_tail()


def _lots(installation: Installation, count: int) -> Iterator[list[dict[str, Any]]]:
    dice, now = random.Random(5), datetime.now(UTC).replace(microsecond=0)
    for first in range(0, count, LOT):
        yield [_event(installation, number, now, dice) for number in range(first, min(count, first + LOT))]


def _event(installation: Installation, number: int, now: datetime, dice: random.Random) -> dict[str, Any]:
    at = now - timedelta(seconds=dice.randrange(DAYS * 86_400))
    whose = 0 if number % OF_THE_FIRST == 0 else dice.randrange(installation.population.count)
    event: dict[str, Any] = {
        "event_id": f"evt_L{number}",
        "type": TYPES[number % len(TYPES)],
        "created": at,
        "received_at": at,
        "payload": "x" * 400,
        "source": "delivery",
        "state": "succeeded",
        "outcome": "applied",
        "attempts": 1,
        "organization": ObjectId(installation.population.org_id(whose)),
        "stripe_customer_id": installation.population.customer(whose),
        "stripe_subscription_id": installation.population.subscription(whose),
        "history": [{"at": at, "source": "webhook", "code_version": "0.1.0", "outcome": "applied"}],
        "expires_at": now + timedelta(days=DAYS),
    }
    if number % 10 == 0:
        event |= {"state": "dead", "reason": "handler_failed", "attempts": 5, "dead_at": at + timedelta(hours=1)}
        event |= {"fingerprint": f"ValueError: cause {dice.randrange(FINGERPRINTS)}", "dead_version": "0.1.0"}
        del event["outcome"], event["expires_at"]
    return event
