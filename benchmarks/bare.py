"""The smallest route that keeps the promise of a 200: the signature verified, the event inserted for good."""

import contextlib
import json
import os

import stripe
from flask import Flask, request
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError
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

    @app.get("/readyz")
    def ready() -> str:
        return "ok"

    return app
