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
PLANTED_ORG = "65000000000000000000ca11"
KEY = "canary-of-the-signing-key-which-is-long-enough-for-any-HMAC-at-all"
EMAIL = "canary.person@canary-mail.example"
CARD = "4242424242424242"
PASSWORD = "canary password of a person"
STRIPE_KEY = "sk_test_canaryOfSomebodysKey0123456789"
SECRET = "whsec_canaryOfAnEndpoint0123456789"
TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.Y2FuYXJ5LXNpZ25hdHVyZQ"
PLANTED = (STRIPE_KEY, SECRET, TOKEN, CARD, PASSWORD, EMAIL)
# The same of others, which only Stripe has: nobody sends these, so no answer can quote who asked.
AT_STRIPE_EMAIL = "kept.by.stripe@canary-stripe.example"
AT_STRIPE_SECRETS = (
    "sk_test_keptByStripe0123456789abcdef",
    "whsec_keptByStripe0123456789abcdef",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJzdHJpcGUifQ.c3RyaXBlLXNpZ25hdHVyZQ",
    "5555555555554444",
)
# Which answers may show the e-mail of a customer at Stripe, and to which roles.
SHOWS_AT_STRIPE_EMAIL = {
    "/customer/": {"auditor", "support", "admin"},  # customer:read: it is what the customer is asked about
    "/events/evt_": {"admin"},  # payload:read
}
# What Stripe says of a request that it refuses may quote anything.
STRIPE_SAYS = [
    (400, {"type": "invalid_request_error", "param": "customer"}),
    (402, {"type": "card_error", "code": "card_declined"}),
    (403, {"type": "invalid_request_error"}),
    (404, {"type": "invalid_request_error", "code": "resource_missing", "param": "id"}),
    (500, {"type": "api_error"}),
]
# These show what the SaaS calls an organization, which was an address here.
SHOWS_EMAIL = ("/customer/", "/search")
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
    url = f"{running.url}/api/billing/organizations/{PLANTED_ORG}"
    requests.put(url, headers=running.headers, json={"name": "Planted", "slug": "planted"}, timeout=30)
    told = " ".join((*AT_STRIPE_SECRETS, AT_STRIPE_EMAIL))
    email, card = AT_STRIPE_EMAIL, AT_STRIPE_SECRETS[-1]
    metadata = {"organizationId": PLANTED_ORG, "contact": email, "card": card, "told": told[:450]}
    customer = running.stripe.customers.create({"email": email, "name": told[:250], "metadata": metadata})
    price = running.stripe.prices.list({"limit": 1}).data[0].id
    subscription = running.stripe.subscriptions.create(
        {"customer": customer.id, "items": [{"price": price}], "metadata": metadata}
    )
    running.stripe.subscriptions.update(subscription.id, {"description": told[:450]})
    orphan = {"email": email, "name": card, "metadata": {"organizationId": str(ObjectId()), "told": told[:450]}}
    orphan_customer = running.stripe.customers.create(orphan).id
    running.stripe.subscriptions.create({"customer": orphan_customer, "items": [{"price": price}]})
    running.sandbox.payment(customer.id, "decline")
    running.sandbox.release()
    charge = running.stripe.charges.list({"customer": customer.id, "limit": 1}).data[0].id
    event = running.stripe.events.list({"type": "customer.subscription.updated", "limit": 1}).data[0].id
    running.planted = (customer.id, subscription.id, charge, event)


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


def about_the_planted(running, headers):
    """Every operation about what Stripe has of the planted customer; what changes something is only foretold."""
    customer, subscription, charge, event = running.planted
    paths = {"orgId": PLANTED_ORG, "eventId": event, "jobId": f"replay-{event}-1"}
    values = {
        "orgId": PLANTED_ORG,
        "chargeId": charge,
        "eventId": event,
        "stripeSubscriptionId": subscription,
        "mode": "now",
    }
    values |= {"refundRequestId": f"refund-{charge}", "amountCents": 100, "planId": "pro", "force": True}
    for method, path, query, told in operations(running.document):
        if "/auth/" in path or method == "PUT":
            continue
        for name in [each.strip("{}") for each in path.split("/") if each.startswith("{")]:
            path = path.replace(f"{{{name}}}", paths.get(name, "5" * 24))
        names = body_names(told, running.document)
        body = {name: values[name] for name in names if name in values} if names else None
        asked = [{"q": each} for each in (AT_STRIPE_EMAIL, customer, subscription, charge)] if "q" in query else [{}]
        asked += [{"orgId": PLANTED_ORG}] if "orgId" in query else []
        for given in asked:
            if method != "GET":
                given = given | {"dryRun": "true"}
            answer = requests.request(method, running.url + path, params=given, json=body, headers=headers, timeout=60)
            yield method, path, given, body, answer


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
        found += [(role, *each) for each in about_the_planted(running, headers)]
    for status, error in STRIPE_SAYS:
        says = {"error": error | {"message": " ".join((*AT_STRIPE_SECRETS, AT_STRIPE_EMAIL))}}
        running.sandbox.arm("error", status=status, body=says, times=None)
        try:
            # These are carried out, and what Stripe says of them is kept.
            running.post(f"sync/{PLANTED_ORG}")
            running.post("refund", {"chargeId": running.planted[2], "refundRequestId": f"refund-says-{status}"})
            for role in ("auditor", "support", "admin"):
                found += [(role, *each) for each in about_the_planted(running, headers_of(role))]
        finally:
            running.sandbox.disarm()
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
    assert not [each for each in found if each[-1].status_code not in (502, 503) and each[-1].status_code >= 500]
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
def test_what_only_stripe_has_is_shown_to_nobody_else(answers):
    shown = set()
    for role, method, path, query, _, answer in answers:
        for canary in AT_STRIPE_SECRETS:
            assert canary not in answer.text, (role, method, path, query, answer.text[:1500])
        if AT_STRIPE_EMAIL in answer.text and query.get("q") != AT_STRIPE_EMAIL:
            where = [part for part, roles in SHOWS_AT_STRIPE_EMAIL.items() if part in path and role in roles]
            assert where, (role, method, path, query, answer.text[:1500])
            shown.update(where)
    assert shown == set(SHOWS_AT_STRIPE_EMAIL)
    # What Stripe said was kept, without all that.
    assert any("/audit" in path and "[e-mail]" in answer.text for _, _, path, *_, answer in answers)


@pytest.mark.timeout(400)
def test_nobody_s_address_is_shown_where_it_need_not_be(answers):
    for role, method, path, query, body, answer in answers:
        if EMAIL in json.dumps([query, body, path]) or any(part in path for part in (*SHOWS_EMAIL, *SHOWS_NOTES)):
            continue
        assert EMAIL not in answer.text, (role, method, path, answer.text[:500])


@pytest.mark.timeout(400)
def test_an_event_is_masked_for_who_may_not_see_payloads(running, answers):
    """Of the planted events, an auditor and support see neither address, nor card, nor secrets."""
    subscription = running.planted[1]
    listed = requests.get(
        f"{running.url}/api/admin/billing/events?orgId={PLANTED_ORG}&limit=100",
        headers=headers_of("auditor"),
        timeout=30,
    ).json()["items"]
    ids = [each["eventId"] for each in listed if each["stripeSubscriptionId"] == subscription]
    assert ids
    seen = []
    for role in ("auditor", "support", "admin"):
        for event_id in ids:
            url = f"{running.url}/api/admin/billing/events/{event_id}"
            text = requests.get(url, headers=headers_of(role), timeout=30).text
            for canary in AT_STRIPE_SECRETS:
                assert canary not in text, (role, event_id, canary)
            if role == "admin":
                seen.append(AT_STRIPE_EMAIL in text)
            else:
                assert AT_STRIPE_EMAIL not in text, (role, event_id)
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
        for planted in (
            *PLANTED,
            *AT_STRIPE_SECRETS,
            AT_STRIPE_EMAIL,
            KEY,
            running.told["webhookSecret"],
            running.told["stripeSecretKey"],
        ):
            lines = [line[:600] for line in text.splitlines() if planted in line]
            assert lines == [], (name, planted, lines[:3])
