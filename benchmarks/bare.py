"""The smallest routes that keep the promise of a 200: an event verified and inserted for good, usage recorded once."""

import contextlib
import json
import os
from datetime import UTC, datetime, timedelta
from typing import Any

import stripe
from bson import ObjectId
from flask import Flask, request
from pymongo import MongoClient
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

DURABLE = WriteConcern(w="majority", j=True)


def create_app() -> Flask:
    """For `gunicorn benchmarks.bare:create_app()`, with MONGODB_URI and STRIPE_WEBHOOK_SECRETS."""
    app = Flask(__name__, static_folder=None)
    secret = os.environ["STRIPE_WEBHOOK_SECRETS"]
    client: MongoClient = MongoClient(os.environ["MONGODB_URI"], connect=False)
    events: Collection = client.get_default_database().get_collection("bare_events", write_concern=DURABLE)

    @app.post("/api/billing/webhook")
    def receive() -> str:
        payload = request.get_data(as_text=True)
        stripe.WebhookSignature.verify_header(payload, request.headers["Stripe-Signature"], secret, tolerance=300)
        with contextlib.suppress(DuplicateKeyError):
            events.insert_one({"_id": json.loads(payload)["id"], "payload": payload})
        return "ok"

    @app.post("/api/billing/usage")
    def record() -> dict[str, Any]:
        body = json.loads(request.get_data())
        return record_usage(client.get_default_database(), ObjectId(body["orgId"]), body["key"], body["units"])

    @app.get("/readyz")
    def ready() -> str:
        return "ok"

    return app


def record_usage(database: Database, org_id: ObjectId, key: str, units: int) -> dict[str, Any]:
    """The operations that one record within the quota needs: count it, read the extras, keep it; all or nothing."""
    now, week = datetime.now(UTC), {"organization": org_id, "week": "bare"}
    counts = [{"$set": {"used": {"$add": ["$used", {"$min": [units, {"$subtract": ["$quota", "$used"]}]}]}}}]

    def write(session: ClientSession) -> dict[str, Any]:
        before = database.usage_weeks.find_one_and_update(week, counts, session=session)
        balance = database.extra_balances.find_one({"_id": org_id}, session=session)
        answer = {"used": before["used"] + units, "quota": before["quota"], "extras": (balance or {}).get("units", 0)}
        kept = {"organization": org_id, "key": key, "units": units, "at": now, "expires_at": now + timedelta(days=35)}
        database.usage_records.insert_one(kept | answer, session=session)
        return answer

    with database.client.start_session() as session:
        return session.with_transaction(write, read_concern=ReadConcern("snapshot"), write_concern=DURABLE)
