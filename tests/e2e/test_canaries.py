"""Secrets and personal data planted in every input and in what Stripe answers: no log line, no metric, and no answer to
a role that may not see them has any of it, over a run of the whole product."""

import json
import time

import jwt
import pytest
import requests
import stripe as sdk
from bson import ObjectId

from billing_service.sandbox.stripe.control import Control

ORG = "650000000000000000000006"
KEY = "canary-of-the-signing-key-which-is-long-enough-for-any-HMAC-at-all"
EMAIL = "canary.person@canary-mail.example"
CARD = "4242424242424242"
PASSWORD = "canary password of a person"
STRIPE_KEY = "sk_test_canaryOfSomebodysKey0123456789"
SECRET = "whsec_canaryOfAnEndpoint0123456789"
TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.Y2FuYXJ5LXNpZ25hdHVyZQ"
PLANTED = (STRIPE_KEY, SECRET, TOKEN, CARD, PASSWORD, EMAIL)
# What the e-mail of a customer is for: whoever may look at a customer sees it there, and only there.
SHOWS_EMAIL = ("/customer/",)
# Notes are what an admin wrote for other admins: whoever may read the audit log reads them as they are.
SHOWS_NOTES = ("/audit", "/customer/", "/timeline/", "/refunds", "/findings", "/overview", "/dead-letters", "/events")


@pytest.fixture(scope="module")
def running(start):
    with start(JWT_SECRET_KEY=KEY, MUTATIONS_PER_MINUTE="1000000", STRIPE_READ_TIMEOUT="1.0") as it:
        it.sandbox = Control(it.told["stripeApiBase"])
        stripe_key = it.sandbox.add_key(key="sk_test_somebody_at_stripe")
        base = {"api": it.told["stripeApiBase"]}
        it.stripe = sdk.StripeClient(stripe_key, base_addresses=base, max_network_retries=0).v1
        it.document = requests.get(f"{it.url}/api/openapi.json", timeout=30).json()
        plant_at_stripe(it)
        yield it


def plant_at_stripe(running):
    """A customer whose every text is a canary, with a subscription, a charge and events that tell of them."""
    told = " ".join(PLANTED)
    metadata = {"organizationId": ORG, "contact": EMAIL, "card": CARD, "told": told[:450]}
    customer = running.stripe.customers.create({"email": EMAIL, "name": told[:250], "metadata": metadata})
    price = running.stripe.prices.list({"limit": 1}).data[0].id
    subscription = running.stripe.subscriptions.create(
        {"customer": customer.id, "items": [{"price": price}], "metadata": metadata}
    )
    running.stripe.subscriptions.update(subscription.id, {"description": told[:450]})
    orphan = {"email": EMAIL, "name": CARD, "metadata": {"organizationId": str(ObjectId()), "told": told[:450]}}
    orphan_customer = running.stripe.customers.create(orphan).id
    running.stripe.subscriptions.create({"customer": orphan_customer, "items": [{"price": price}]})
    running.sandbox.payment(customer.id, "decline")
    running.sandbox.release()
    running.planted = (customer.id, subscription.id)


def headers_of(role):
    now = int(time.time())
    claims = {"sub": f"somebody-{role}", "billing_roles": [role], "iat": now, "nbf": now, "exp": now + 3_600}
    claims |= {"jti": f"{role}-{now}", "type": "access", "fresh": False}
    return {"Authorization": f"Bearer {jwt.encode(claims, KEY, algorithm='HS256')}"}


def operations(document):
    for path, item in document["paths"].items():
        for method, told in item.items():
            if method != "parameters":
                parameters = [*item.get("parameters", []), *told.get("parameters", [])]
                yield method.upper(), path, [each["name"] for each in parameters if each["in"] == "query"], told


def body_names(told, document):
    content = told.get("requestBody", {}).get("content", {}).get("application/json", {})
    schema = content.get("schema", {})
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return list(schema.get("properties", {}))


def requests_with(canary, document):
    """Every operation with the canary in its path, its query, its body and its headers, each by itself."""
    for method, path, query, told in operations(document):
        ids = {"orgId": ORG, "eventId": "evt_1", "jobId": "replay-evt_1-1"}
        plain = path
        for name in [each for each in path.split("/") if each.startswith("{")]:
            plain = plain.replace(name, ids.get(name.strip("{}"), "5" * 24))
        names, secret = body_names(told, document), {"X-Request-Id": canary[:100], "User-Agent": canary}
        body = dict.fromkeys(names, canary) if names else None
        yield method, plain, {}, body, secret | {"Idempotency-Key": canary[:200]}
        if "note" in names:
            yield method, plain, {}, {"note": canary}, {}
        for name in query:
            yield method, plain, {name: canary}, {} if names else None, {}
        if "{" in path:
            yield method, path.replace(path[path.index("{") : path.index("}") + 1], canary), {}, None, {}


@pytest.fixture(scope="module")
def answers(running):
    """Every answer to an auditor and to a service, and then to an admin, with what was asked."""
    found = []
    for role in ("auditor", "service", "support", "admin"):
        headers = headers_of(role)
        session = requests.Session()
        for canary in PLANTED:
            for method, path, query, body, more in requests_with(canary, running.document):
                if path.startswith("/api/auth/logout") or "{" in path:
                    continue
                given = {name: value for name, value in (headers | more).items() if value.isascii()}
                answer = session.request(method, running.url + path, params=query, json=body, headers=given, timeout=60)
                found.append((role, method, path, query, body, answer))
        session.close()
    bad = {"Authorization": f"Bearer {TOKEN}"}
    for path in (f"/api/admin/billing/customer/{ORG}", "/api/admin/billing/audit"):
        found.append(("nobody", "GET", path, {}, None, requests.get(running.url + path, headers=bad, timeout=30)))
    login = {"email": EMAIL, "password": PASSWORD}
    found.append(
        (
            "nobody",
            "POST",
            "/api/auth/login",
            {},
            login,
            requests.post(f"{running.url}/api/auth/login", json=login, timeout=30),
        )
    )
    webhook = requests.post(
        f"{running.url}/api/billing/webhook",
        data=json.dumps({"id": "evt_1", "told": PLANTED}),
        headers={"Stripe-Signature": f"t=1,v1={SECRET}"},
        timeout=30,
    )
    found.append(("nobody", "POST", "/api/billing/webhook", {}, None, webhook))
    assert not [each for each in found if each[-1].status_code >= 500]
    return found


def own(running):
    """What this installation's own secrets are."""
    told = running.told
    return (KEY, told["webhookSecret"], told["stripeSecretKey"], told["adminToken"])


@pytest.mark.timeout(400)
def test_no_answer_has_a_secret(running, answers):
    assert len(answers) > 2_000
    for role, method, path, query, body, answer in answers:
        for secret in own(running):
            assert secret not in answer.text, (role, method, path)
        asked = json.dumps([query, body, path])
        for canary in (STRIPE_KEY, SECRET, TOKEN, CARD):
            # What was sent may be quoted to who sent it; what comes from Stripe or others may not.
            if canary in asked or (role != "service" and any(part in path for part in SHOWS_NOTES)):
                continue
            assert canary not in answer.text, (role, method, path, query, answer.text[:500])


@pytest.mark.timeout(400)
def test_nobody_s_address_is_shown_where_it_need_not_be(answers):
    for role, method, path, query, body, answer in answers:
        if EMAIL in json.dumps([query, body, path]) or any(part in path for part in (*SHOWS_EMAIL, *SHOWS_NOTES)):
            continue
        assert EMAIL not in answer.text, (role, method, path, answer.text[:500])


@pytest.mark.timeout(400)
def test_an_event_is_masked_for_who_may_not_see_payloads(running, answers):
    """Of the planted events, an auditor and support see neither address, nor card, nor secrets."""
    _, subscription = running.planted
    listed = requests.get(
        f"{running.url}/api/admin/billing/events?orgId={ORG}&limit=100", headers=headers_of("auditor"), timeout=30
    ).json()["items"]
    ids = [each["eventId"] for each in listed if each["stripeSubscriptionId"] == subscription]
    assert ids
    seen = []
    for role in ("auditor", "support", "admin"):
        for event_id in ids:
            url = f"{running.url}/api/admin/billing/events/{event_id}"
            text = requests.get(url, headers=headers_of(role), timeout=30).text
            for canary in (STRIPE_KEY, SECRET, TOKEN, CARD):
                assert canary not in text, (role, event_id, canary)
            if role == "admin":
                seen.append(EMAIL in text)
            else:
                assert EMAIL not in text, (role, event_id)
    assert any(seen)


@pytest.mark.timeout(400)
def test_no_log_line_and_no_metric_has_any_of_it(running, answers, folder):
    requests.post(f"{running.url}/api/admin/billing/webhook/replay", headers=running.headers, json={}, timeout=30)
    time.sleep(2)
    logs = [
        path for path in (folder / "data").rglob("*.log") if "stripe" not in path.name and "mongod" not in path.name
    ]
    assert {"web", "worker", "scheduler"} <= {path.stem for path in logs}, logs
    metrics = requests.get(f"{running.url}/metrics", timeout=30).text
    for name, text in [("metrics", metrics), *((path.name, path.read_text(errors="replace")) for path in logs)]:
        for planted in (*PLANTED, KEY, running.told["webhookSecret"], running.told["stripeSecretKey"]):
            lines = [line[:600] for line in text.splitlines() if planted in line]
            assert lines == [], (name, planted, lines[:3])
