"""How many events a second one worker process applies, beside the bare MongoDB operations that one event needs."""

import os
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import mongoengine
from pymongo import ReturnDocument
from pymongo.client_session import ClientSession
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from billing_service import create_app, observability
from billing_service.settings import Settings
from billing_service.webhooks import Desk, handle_due

from .installation import Installation
from .scale import Scale, in_turn, median
from .signed import Mint

MAJORITY = WriteConcern(w="majority", j=True)
# An event that reached us this long after it was created is looked up at Stripe.
LATE = timedelta(minutes=5)
# The slower ones are measured with fewer events, or fewer times.
BARE_SHARE = 4
LOOKED_UP_TIMES = 3


def run(installation: Installation, scale: Scale) -> None:
    """Print both rates, and that of events that need a look at Stripe."""
    installation.database.webhook_events.delete_many({})
    with (installation.folder / "applying.log").open("w") as log:
        app = create_app(Settings.from_env(os.environ | installation.environment))
        observability.configure("INFO", log)
        runtime = app.extensions["billing"]
        desk = Desk(runtime.stripe, runtime.plans, runtime.settings.webhook_retry_delays, runtime.clock)
        mint, count = Mint(installation.population), scale.applied_events
        try:
            asked = _stripe_requests()
            _handled(installation, mint, desk, count // 4)
            assert _stripe_requests() == asked, "these events were to be settled from their payload"
            ours, bare, ratio = in_turn(
                scale.pairs,
                lambda: _handled(installation, mint, desk, count),
                lambda: _bare(installation, mint, count // BARE_SHARE),
            )
            print(f"Applying: one process, each event of another organization, medians of {scale.pairs} pairs")
            print(f"  {'settled from the payload':<34}{ours:7.0f}/s")
            print(f"  {'claim, read, transaction, bare':<34}{bare:7.0f}/s")
            print(f"  ratio {ratio:.2f} (target: above 1.00)")
            _looked_up(installation, mint, desk, scale)
        finally:
            observability.configure("ERROR")
            mongoengine.disconnect_all()


def _looked_up(installation: Installation, mint: Mint, desk: Desk, scale: Scale) -> None:
    asked = _stripe_requests()
    rates = [_handled(installation, mint, desk, scale.looked_up_events, LATE) for _ in range(LOOKED_UP_TIMES)]
    requests = (_stripe_requests() - asked) / (scale.looked_up_events * LOOKED_UP_TIMES)
    print(
        f"  {'looked up at the sandbox':<34}{median(rates):7.0f}/s   {requests:.2f} Stripe requests per event\n",
        flush=True,
    )


def _stripe_requests() -> float:
    [family] = observability.STRIPE_REQUESTS.collect()
    return sum(each.value for each in family.samples if each.name.endswith("_total"))


def _handled(installation: Installation, mint: Mint, desk: Desk, count: int, age: timedelta = timedelta(0)) -> float:
    """Events per second of the service."""
    _store(installation, mint, count, age)
    begun = time.perf_counter()
    ends = handle_due(desk, stop=lambda: False)
    seconds = time.perf_counter() - begun
    assert ends["applied"] == count, f"{count} events came to {dict(ends)}"
    return count / seconds


def _store(installation: Installation, mint: Mint, count: int, age: timedelta = timedelta(0)) -> None:
    """Events as the endpoint stores them, one for each subscription."""
    people, first, now = installation.population, installation.take(count), datetime.now(UTC)
    rows = []
    for index in (each % people.count for each in range(first, first + count)):
        event_id, body = mint.event(index, (now - age).timestamp())
        rows.append(
            {
                "event_id": event_id,
                "type": "customer.subscription.updated",
                "api_version": "2026-10-28.endive",
                "livemode": False,
                "created": (now - age).replace(microsecond=0),
                "payload": body.decode(),
                "received_at": now,
                "source": "delivery",
                "secret_index": 0,
                "state": "received",
                "attempts": 0,
                "stripe_customer_id": people.customer(index),
                "stripe_subscription_id": people.subscription(index),
                "organization": people.org_id(index),
            }
        )
    installation.database.webhook_events.insert_many(rows, ordered=False)


def _bare(installation: Installation, mint: Mint, count: int) -> float:
    """Events per second when each is claimed, its row read, and row, organization and event written, one by one."""
    _store(installation, mint, count)
    begun = time.perf_counter()
    for _ in range(count):
        _settle_one(installation)
    return count / (time.perf_counter() - begun)


def _settle_one(installation: Installation) -> None:
    database, now = installation.database, datetime.now(UTC)
    events = database.get_collection("webhook_events", write_concern=MAJORITY)
    due: dict[str, Any] = {"state": {"$in": ["received", "failed"]}, "next_attempt_at": {"$not": {"$gt": now}}}
    lease = {"state": "processing", "lease_owner": "bare", "lease_until": now + timedelta(seconds=30)}
    event = events.find_one_and_update(
        due, {"$set": lease}, sort=[("created", 1)], return_document=ReturnDocument.AFTER
    )
    assert event is not None
    row = database.subscriptions.find_one({"stripe_subscription_id": event["stripe_subscription_id"]})
    assert row is not None

    held = {"_id": event["_id"], "state": "processing", "lease_owner": "bare"}
    seen = {"$set": {"status": "active", "as_of": event["created"], "synced_at": now}, "$inc": {"version": 1}}
    plan = {"$set": {"plan": row["plan"]}}
    end = {
        "$set": {"state": "succeeded", "outcome": "applied", "expires_at": now + timedelta(days=90)},
        "$unset": {"lease_owner": 1, "lease_until": 1},
    }

    def write(session: ClientSession) -> None:
        database.subscriptions.update_one({"_id": row["_id"], "version": row["version"]}, seen, session=session)
        database.organizations.update_one({"_id": row["organization"]}, plan, session=session)
        database.webhook_events.update_one(held, end, session=session)

    with database.client.start_session() as session:
        session.with_transaction(write, read_concern=ReadConcern("snapshot"), write_concern=MAJORITY)
