"""What making the demo data needs of the running system: the API, Stripe's sandbox, webhooks that are held, MongoDB."""

import time
from collections.abc import Callable, Iterable
from datetime import UTC
from functools import partial
from typing import TYPE_CHECKING, Any

import requests
from bson import ObjectId
from pymongo import MongoClient

from billing_service.documents.webhook_event import FINAL_STATES

from ..dev_child import CannotStart
from .at_stripe import AtStripe, answered

if TYPE_CHECKING:
    from .organizations import Organization

# The sandbox remembers in this product's metadata which organizations are finished.
DIARY = "prod_demo_diary"
PATIENCE_SECONDS = 90.0
DAY = 86_400


class Stage(AtStripe):
    """Connections to a running system, and what is done with them for one organization or for all."""

    def __init__(self, url: str, admin_token: str, stripe_api_base: str, stripe_secret_key: str, mongodb_uri: str):
        super().__init__(stripe_api_base, stripe_secret_key)
        self.url = url.rstrip("/")
        self.mongo: MongoClient = MongoClient(mongodb_uri, tz_aware=True, tzinfo=UTC, serverSelectionTimeoutMS=5_000)
        self.database = self.mongo.get_default_database("test")
        self._token = {"Authorization": f"Bearer {admin_token}"}

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self.mongo.close()

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict:
        """A call of the service's API, repeated while it asks for patience."""

        def heard() -> requests.Response | None:
            answer = self._http.request(method, self.url + path, json=body, headers=self._token, timeout=30)
            return None if answer.status_code == requests.codes.too_many_requests else answer

        return answered(self._until(heard, f"{method} {path} was answered 429 all the time"))

    def finished(self) -> set[str]:
        """The ids of the organizations that are finished at Stripe and known here."""
        diary = (self.look(f"/v1/products/{DIARY}") or {}).get("metadata", {})
        known = self.database.organizations.find({"_id": {"$in": [ObjectId(each) for each in diary]}}, {"_id": 1})
        return {str(each["_id"]) for each in known}

    def finish(self, organizations: Iterable["Organization"]) -> None:
        """Remember that these are made."""
        if self.look(f"/v1/products/{DIARY}") is None:
            self.ask("/v1/products", {"id": DIARY, "name": "Demo data (remembers what was made)", "active": "false"})
        self.ask(f"/v1/products/{DIARY}", {f"metadata[{each.id}]": "made" for each in organizations})

    def clear(self, organization: "Organization") -> None:
        """Remove what an interrupted start left of an organization, here and at Stripe; its audit rows stay."""
        for customer in self._listed("/v1/customers", email=organization.email):
            self._remove_customer(customer["id"])
        mine = {"organization": organization.object_id}
        for name in ("subscriptions", "findings", "webhook_events", "ledger_entries"):
            self.database[name].delete_many(mine)
        self.database.extra_balances.delete_one({"_id": organization.object_id})
        self.database.organizations.delete_one({"_id": organization.object_id})

    def _remove_customer(self, customer: str) -> None:
        for state in ("held", "pending"):
            self._lose(self._waiting(state, customer))
        # First what the worker may be at: without its event it can write no row any more.
        self.database.webhook_events.delete_many({"stripe_customer_id": customer})
        for each in self.subscriptions_of(customer):
            self.control.remove(each["id"])
        self.control.remove(customer)

    def tell_of(self, organization: "Organization") -> None:
        """Tell the service of an organization, as the SaaS's backend does."""
        told = {"name": organization.name, "slug": organization.slug}
        self.call("PUT", f"/api/billing/organizations/{organization.id}", told)

    def customer(self, organization: "Organization") -> str:
        """A new customer at Stripe that names its organization."""
        form = {"name": organization.name, "email": organization.email}
        return self.ask("/v1/customers", form | {"metadata[organizationId]": organization.id})["id"]

    def subscribe(self, customer: str, price: str, **more: Any) -> str:
        """A new subscription of one price, paid at once."""
        form = {"customer": customer, "items[0][price]": price}
        return self.ask("/v1/subscriptions", form | more)["id"]

    def customer_of(self, organization: "Organization") -> str:
        """The organization's customer at Stripe."""
        return self._listed("/v1/customers", email=organization.email)[0]["id"]

    def subscription_of(self, organization: "Organization") -> dict:
        """The newest subscription of the organization's customer."""
        return self.subscriptions_of(self.customer_of(organization))[0]

    def subscriptions_of(self, customer: str) -> list[dict]:
        """All subscriptions of a customer, newest first."""
        return self._listed("/v1/subscriptions", customer=customer, status="all")

    def charges_of(self, customer: str) -> list[dict]:
        """All charges of a customer, newest first."""
        return self._listed("/v1/charges", customer=customer)

    def _listed(self, path: str, **query: Any) -> list[dict]:
        return (self.look(path, limit=100, **query) or {"data": []})["data"]

    def row(self, organization: "Organization") -> dict:
        """The stored subscription, as MongoDB has it."""
        return self.database.subscriptions.find_one({"organization": organization.object_id}) or {}

    def change_row(self, organization: "Organization", fields: dict[str, Any], unset: Iterable[str] = ()) -> None:
        """Change the stored subscription behind the service's back."""
        change: dict[str, Any] = {"$set": fields, "$inc": {"version": 1}}
        if unset:
            change["$unset"] = dict.fromkeys(unset, "")
        self.database.subscriptions.update_one({"organization": organization.object_id}, change)

    def change_organization(self, organization: "Organization", plan: str) -> None:
        """Change the organization's plan behind the service's back."""
        self.database.organizations.update_one({"_id": organization.object_id}, {"$set": {"plan": plan}})

    def age(self, customer: str, days: int) -> None:
        """Move all that the customer has at Stripe into the past, with the events that are not delivered yet."""
        for subscription in self.subscriptions_of(customer):
            self.control.patch(subscription["id"], _earlier(subscription, days))
            if subscription["status"] in ("active", "trialing"):
                # Any change makes the sandbox see anew when this one's period ends.
                self.ask(f"/v1/subscriptions/{subscription['id']}", {"description": f"Since {days} days and more"})
        for charge in self.charges_of(customer):
            self.control.patch(charge["id"], _earlier(charge, days))
        for delivery in self._held(customer):
            event = self.look(f"/v1/events/{delivery['event']}")
            self.control.patch(delivery["event"], _earlier(event or {}, days))

    def deliver(self, about: str = "") -> None:
        """Send the held webhooks that name this id, or all, and wait until the worker has brought each to an end."""
        held = self._held(about)
        self.control.release([each["id"] for each in held], wait=False)
        ours = {"event_id": {"$in": [each["event"] for each in held]}, "state": {"$in": list(FINAL_STATES)}}
        self._until(
            lambda: self.database.webhook_events.count_documents(ours) == len(held),
            "the worker has not handled the webhooks",
        )

    def held_event(self, kind: str, about: str) -> str:
        """The id of the newest held event of a type that names this id."""
        held = [each["event"] for each in self._held(about)]
        return next(each for each in reversed(held) if (self.look(f"/v1/events/{each}") or {}).get("type") == kind)

    def give_up(self, event: str) -> None:
        """Deliver a held event that cannot succeed, and have it tried until the service gives it up.

        A person's replays are the attempts that would otherwise take half an hour.
        """
        self.control.release([each["id"] for each in self._held(event)], wait=False)
        mine = {"event_id": event, "attempts": {"$gte": 1}, "state": {"$in": ["failed", *FINAL_STATES]}}
        self._until(lambda: self.database.webhook_events.find_one(mine), "the worker has not tried the event")
        while self.database.webhook_events.find_one({"event_id": event, "state": "failed"}):
            job_id = self.call("POST", "/api/admin/billing/webhook/replay", {"eventId": event})["jobId"]
            self._until(partial(self._is_over, job_id), "the worker has not replayed the event")

    def _is_over(self, job_id: str) -> bool:
        answer = self.call("GET", f"/api/admin/billing/webhook/replay/{job_id}")
        return answer["state"] in ("succeeded", "failed")

    def lose_deliveries(self) -> None:
        """Lose every webhook that is held, with its event: nothing will ever repair what it told of."""
        self._lose(self._held())

    def _held(self, about: str = "") -> list[dict]:
        return self._waiting("held", about)

    def _waiting(self, state: str, about: str) -> list[dict]:
        return [each for each in self.control.deliveries(state=state) if about in (each["body"] or "")]

    def _lose(self, deliveries: Iterable[dict]) -> None:
        for each in deliveries:
            self.control.drop(each["id"])
            self.control.remove(each["event"])

    def _until(self, question: Callable[[], Any], words: str) -> Any:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            answer = question()
            if answer is not None and answer is not False:
                return answer
            time.sleep(0.1)
        raise CannotStart(f"The demo data could not be made: after {PATIENCE_SECONDS:.0f} s {words}.")


def _earlier(subject: dict, days: int) -> dict:
    """The patch that makes a Stripe object that many days older."""
    moments = (
        "created",
        "start_date",
        "billing_cycle_anchor",
        "trial_start",
        "trial_end",
        "canceled_at",
        "ended_at",
    )
    patch: dict[str, Any] = {name: subject[name] - days * DAY for name in moments if subject.get(name)}
    if subject.get("object") == "subscription":
        edges = ("current_period_start", "current_period_end")
        items = [item | {name: item[name] - days * DAY for name in edges} for item in subject["items"]["data"]]
        patch["items"] = {"data": items}
    return patch
