"""Accounts and their API keys: who calls, and what a restricted key may do."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

import orjson

from . import CURRENT_VERSION, DEFAULT_ACCOUNT, DEFAULT_KEY
from .ids import new_id
from .problems import Problem
from .shapes import account_shape

PERMISSION = {
    "account": "accounts_kyc_basic",
    "accounts": "accounts_kyc_basic",
    "customers": "customer",
    "products": "product",
    "prices": "plan",
    "subscriptions": "subscription",
    "subscription_items": "subscription",
    "subscription_schedules": "subscription",
    "invoices": "invoice",
    "invoice_payments": "invoice",
    "charges": "charge",
    "payment_intents": "payment_intent",
    "refunds": "charge",
    "disputes": "dispute",
    "checkout_sessions": "checkout_session",
    "events": "event",
    "webhook_endpoints": "webhook",
}
# Stripe grants "Charges and Refunds" together.
GRANTED_WITH = {"refunds": "charges"}
# Who expands an object needs to be allowed to read it.
EXPANDED = {
    "customer": "customers",
    "invoice": "invoices",
    "latest_invoice": "invoices",
    "subscription": "subscriptions",
    "charge": "charges",
    "latest_charge": "charges",
    "payment_intent": "payment_intents",
}


@dataclass(frozen=True)
class Caller:
    key: str
    account: str
    permissions: dict | None
    api_version: str


class Accounts:
    def __init__(self, store, clock):
        self.store = store
        self.clock = clock
        self.ensure_default()

    def ensure_default(self):
        if not self.store.one("SELECT 1 FROM accounts"):
            self.create(DEFAULT_ACCOUNT, DEFAULT_KEY)

    def create(self, account=None, key=None, api_version=None, name=None) -> dict:
        account = account or new_id("acct_1")
        body = account_shape(account, self.clock.now(), name or "Sandbox")
        with self.store.transaction():
            self.store.run(
                "INSERT INTO accounts VALUES (?, ?, ?)",
                (account, api_version or CURRENT_VERSION, orjson.dumps(body).decode()),
            )
            return {"id": account, "key": self.add_key(account, key or new_id("sk_test_"))}

    def add_key(self, account, key=None, permissions=None) -> str:
        key = key or new_id("rk_test_" if permissions is not None else "sk_test_")
        stored = orjson.dumps(permissions).decode() if permissions is not None else None
        with self.store.transaction():
            self.store.run("INSERT OR REPLACE INTO keys VALUES (?, ?, ?)", (key, account, stored))
        return key

    def ids(self) -> list[str]:
        return [row["id"] for row in self.store.all("SELECT id FROM accounts ORDER BY rowid")]

    def body(self, account) -> dict | None:
        row = self.store.one("SELECT body FROM accounts WHERE id = ?", (account,))
        return orjson.loads(row["body"]) if row else None

    def api_version(self, account) -> str:
        return self.store.one("SELECT api_version FROM accounts WHERE id = ?", (account,))["api_version"]

    def authenticate(self, headers) -> Caller:
        key = presented_key(headers)
        if not key:
            raise unauthorized(
                "You did not provide an API key. You need to provide your API key in the Authorization "
                "header, using Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY'). See "
                "https://stripe.com/docs/api#authentication for details, or we can help at "
                "https://support.stripe.com/."
            )
        row = self.store.one(
            "SELECT keys.*, api_version FROM keys JOIN accounts ON accounts.id = keys.account WHERE key = ?", (key,)
        )
        if not row:
            raise unauthorized(f"Invalid API Key provided: {masked(key)}")
        permissions = orjson.loads(row["permissions"]) if row["permissions"] else None
        caller = Caller(key, row["account"], permissions, row["api_version"])
        wanted = headers.get("stripe-account")
        if wanted and wanted != caller.account:
            raise Problem(
                403,
                f"The provided key '{masked(key)}' does not have access to account '{wanted}' (or that "
                "account does not exist). Application access may have been revoked.",
                code="account_invalid",
                executed=False,
            )
        return caller


def presented_key(headers) -> str | None:
    scheme, _, value = (headers.get("authorization") or "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value).decode().partition(":")[0]
        except (binascii.Error, UnicodeDecodeError):
            return None
    return None


def masked(key: str) -> str:
    head = "_".join(key.split("_")[:2]) + "_" if key.count("_") >= 2 else ""
    rest = key[len(head) :]
    return head + "*" * max(len(rest) - 4, 4) + rest[-4:]


def unauthorized(message):
    return Problem(401, message, executed=False, headers={"WWW-Authenticate": 'Bearer realm="Stripe"'})


def expanded_resources(wishes) -> list[str]:
    """The resources of the objects that a request expands."""
    if not isinstance(wishes, list):
        return []
    return [EXPANDED[name] for wish in wishes for name in str(wish).split(".") if name in EXPANDED]


def require_permission(caller: Caller, method: str, resource: str):
    """Restricted keys name each resource (the path's plural) with none, read or write; `*` is the rest."""
    if caller.permissions is None:
        return
    needed = "read" if method == "GET" else "write"
    names = (resource, GRANTED_WITH.get(resource), "*")
    granted = next((caller.permissions[name] for name in names if name in caller.permissions), "none")
    if granted == "write" or granted == needed:
        return
    raise Problem(
        403,
        f"The provided key '{masked(caller.key)}' does not have the required permissions for this "
        f"endpoint on account '{caller.account}'. Having the 'rak_{PERMISSION[resource]}_{needed}' "
        "permission would allow this request to continue.",
        executed=False,
    )
