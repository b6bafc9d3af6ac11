"""POST /api/admin/billing/sync/{orgId}"""

import pytest
from bson import ObjectId

from billing_service.documents import AdminAction, AdminOperation, Finding, Organization, OutboxSignal, Subscription

BASE = "/api/admin/billing/sync/"


def url(org_id, query=""):
    return f"{BASE}{org_id}{query}"


def test_it_works(client, admin, billed):
    it = billed("pro", stored=False)
    answer = client.post(url(it.org_id), headers=admin, json={"note": "says they paid"})
    assert answer.status_code == 200
    assert answer.json["status"] == "active"
    assert answer.json["plan"] == "pro"
    assert {"status", "plan", "stripePlan", "currentPeriodEnd"} <= set(answer.json["changed"])
    assert answer.json["previous"]["plan"] == "free"
    assert answer.json["updated"]["plan"] == "pro"
    assert (it.row.status, it.row.plan, it.row.stripe_plan, it.plan) == ("active", "pro", "pro", "pro")
    assert it.row.current_period_end is not None
    assert it.row.synced_from == "sync"


def test_it_tells_the_transition_once(client, admin, billed):
    it = billed("pro", stored=False)
    client.post(url(it.org_id), headers=admin)
    client.post(url(it.org_id), headers=admin)
    signals = OutboxSignal.objects(organization=it.org_id, name="plan_changed")
    assert [each.facts for each in signals] == [{"from": "free", "to": "pro", "direction": "upgrade"}]


def test_twice_is_once(client, admin, billed):
    it = billed("pro", stored=False)
    client.post(url(it.org_id), headers=admin)
    again = client.post(url(it.org_id), headers=admin)
    assert again.status_code == 200
    assert again.json["changed"] == []


def test_it_needs_a_token(client, billed, frozen):
    it = billed(stored=False)
    with frozen:
        answer = client.post(url(it.org_id))
    assert (answer.status_code, answer.json["code"]) == (401, "unauthorized")
    assert answer.content_type == "application/problem+json"


def test_it_needs_the_permission(client, token, billed, frozen):
    it = billed(stored=False)
    with frozen:
        answer = client.post(url(it.org_id), headers=token("auditor"))
    assert (answer.status_code, answer.json["code"]) == (403, "forbidden")
    assert "sync:create" in answer.json["detail"]


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("not-an-id", {}, 422, "invalid_request"),
        ("{org}?dryRum=true", {}, 422, "invalid_request"),
        ("{org}?dryRun=perhaps", {}, 422, "invalid_request"),
        ("{org}", {"note": 7}, 422, "invalid_request"),
        ("{org}", {"note": "\x00"}, 422, "invalid_request"),
        ("{org}", {"note": "x" * 1001}, 422, "invalid_request"),
        ("{org}", {"note": {"$gt": ""}}, 422, "invalid_request"),
        ("{org}", {"notes": "typo"}, 422, "invalid_request"),
    ],
)
def test_it_rejects_bad_input(client, admin, billed, frozen, path, body, status, code):
    it = billed(stored=False)
    with frozen:
        answer = client.post(BASE + path.format(org=it.org_id), headers=admin, json=body)
    assert (answer.status_code, answer.json["code"]) == (status, code)
    assert set(answer.json["errors"]) <= {"orgId", "dryRum", "dryRun", "note", "notes"}
    assert all(isinstance(why, list) for why in answer.json["errors"].values())


@pytest.mark.parametrize(
    ("content", "content_type", "status", "code"),
    [
        (b"{", "application/json", 400, "bad_request"),
        (b"[]", "application/json", 400, "bad_request"),
        (b"\xff\xfe", "application/json", 400, "bad_request"),
        (b'{"note":' * 90_000, "application/json", 400, "bad_request"),
        (b'{"note": "\\ud800"}', "application/json", 422, "invalid_request"),
        (b"note=x", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        (b'{"note": "' + b"x" * 1_100_000 + b'"}', "application/json", 413, "payload_too_large"),
    ],
)
def test_it_rejects_a_body_it_cannot_read(client, admin, billed, frozen, content, content_type, status, code):
    it = billed(stored=False)
    with frozen:
        answer = client.post(url(it.org_id), headers=admin, data=content, content_type=content_type)
    assert (answer.status_code, answer.json["code"]) == (status, code)


def test_it_reports_stripe_down(client, admin, billed, sandbox, frozen):
    it = billed(stored=False)
    sandbox.arm("error", status=500, times=None)
    with frozen:
        answer = client.post(url(it.org_id), headers=admin)
    assert (answer.status_code, answer.json["code"]) == (502, "stripe_unavailable")
    actions = AdminAction.objects(organization=it.org_id).order_by("id")
    assert [(each.phase, each.outcome) for each in actions] == [("intent", "pending"), ("outcome", "failed")]
    assert actions[1].error.startswith("stripe_unavailable")


def test_a_rate_limit_is_passed_on(client, admin, billed, sandbox, frozen):
    it = billed(stored=False)
    sandbox.arm("rate_limited", retry_after=7, times=None)
    with frozen:
        answer = client.post(url(it.org_id), headers=admin)
    assert (answer.status_code, answer.json["code"]) == (429, "stripe_rate_limited")
    assert 1 <= int(answer.headers["Retry-After"]) <= 7


def test_a_bad_key_is_not_called_a_blip(client, admin, billed, sandbox, frozen):
    it = billed(stored=False)
    sandbox.arm("error", status=401, body={"error": {"type": "invalid_request_error", "message": "Invalid API Key"}})
    with frozen:
        answer = client.post(url(it.org_id), headers=admin)
    assert (answer.status_code, answer.json["code"]) == (502, "stripe_misconfigured")


def test_an_unknown_organization_is_404(client, admin):
    answer = client.post(url(ObjectId()), headers=admin)
    assert (answer.status_code, answer.json["code"]) == (404, "organization_not_found")


def test_no_row_is_404_and_names_link(client, admin, organization):
    answer = client.post(url(organization()), headers=admin)
    assert (answer.status_code, answer.json["code"]) == (404, "subscription_not_found")
    assert "/link/" in answer.json["detail"]


def test_nothing_to_look_at_is_422(client, admin, organization, frozen):
    org_id = organization()
    Subscription(organization=org_id, plan="free").save()
    with frozen:
        answer = client.post(url(org_id), headers=admin)
    assert (answer.status_code, answer.json["code"]) == (422, "no_stripe_subscription")


def test_an_unresolved_plan_is_refused(client, admin, billed, frozen):
    it = billed(None, stored=False)
    with frozen:
        answer = client.post(url(it.org_id), headers=admin)
    assert (answer.status_code, answer.json["code"]) == (409, "plan_unresolved")
    assert answer.json["priceId"].startswith("price_")


def test_metadata_of_another_organization_is_refused(client, admin, billed, stripe, frozen):
    it, other = billed("pro"), str(ObjectId())
    stripe.subscriptions.update(it.subscription, {"metadata": {"organizationId": other}})
    with frozen:
        answer = client.post(url(it.org_id), headers=admin)
    assert (answer.status_code, answer.json["code"]) == (409, "organization_conflict")
    assert answer.json["organizationId"] == other


def test_a_status_that_is_not_live_needs_no_plan(client, admin, billed, stripe):
    it = billed(None, stored=False)
    stripe.subscriptions.cancel(it.subscription)
    answer = client.post(url(it.org_id), headers=admin)
    assert answer.status_code == 200
    assert (it.row.status, it.row.plan) == ("canceled", "free")


def test_a_price_of_the_plan_file_means_its_plan(client, admin, organization, sandbox, runtime):
    seeded = sandbox.seed(count=1, prices=["price_business_yearly"])["first"]
    live = runtime.stripe.subscription(seeded).value
    org_id = organization(id=ObjectId(live.metadata["organizationId"]))
    Subscription(organization=org_id, stripe_customer_id=live.customer, plan="free").save()
    answer = client.post(url(org_id), headers=admin)
    assert (answer.status_code, answer.json["plan"]) == (200, "business")
    assert Subscription.objects(organization=org_id).first().stripe_subscription_id == seeded


def test_proven_gone_is_written_as_canceled_and_free(client, admin, billed, sandbox):
    it = billed("pro")
    sandbox.remove(it.subscription)
    answer = client.post(url(it.org_id), headers=admin)
    assert answer.status_code == 200
    assert (it.row.status, it.row.plan, it.plan) == ("canceled", "free", "free")
    assert it.row.stripe_subscription_id == it.subscription


def test_missing_without_proof_writes_nothing(client, admin, billed, sandbox, frozen):
    it = billed("pro")
    sandbox.remove(it.subscription)
    sandbox.remove(it.customer)
    with frozen:
        answer = client.post(url(it.org_id), headers=admin)
    assert (answer.status_code, answer.json["code"]) == (409, "missing_unproven")
    assert (it.row.status, it.row.plan) == ("active", "pro")


def test_a_deleted_customer_ends_the_subscription(client, admin, billed, stripe):
    it = billed("pro")
    stripe.customers.delete(it.customer)
    answer = client.post(url(it.org_id), headers=admin)
    assert answer.status_code == 200
    assert (it.row.status, it.row.plan) == ("canceled", "free")


def test_the_paying_subscription_wins_over_an_ended_one(client, admin, billed, subscribe, stripe):
    it = billed("starter")
    stripe.subscriptions.cancel(it.subscription)
    second = subscribe(it.customer, "business")
    answer = client.post(url(it.org_id), headers=admin)
    assert answer.status_code == 200
    assert (it.row.stripe_subscription_id, it.row.plan) == (second, "business")


def test_two_live_ones_are_told_and_the_oldest_is_kept(client, admin, billed, subscribe, sandbox):
    it = billed("starter")
    sandbox.advance(60)
    second = subscribe(it.customer, "business")
    answer = client.post(url(it.org_id), headers=admin)
    assert answer.status_code == 200
    assert it.row.stripe_subscription_id == it.subscription
    assert [each.stripe_subscription_id for each in it.row.candidates] == [second]
    finding = Finding.objects(kind="several_live_subscriptions", organization=it.org_id).first()
    assert set(finding.stripe_subscription_ids) == {it.subscription, second}


def test_a_past_due_row_knows_since_when(client, admin, billed, sandbox):
    it = billed("pro")
    sandbox.payment(it.customer, "decline")
    sandbox.advance(32 * 86400)
    answer = client.post(url(it.org_id), headers=admin)
    assert answer.json["status"] == "past_due"
    assert it.row.plan == "pro"
    since = it.row.past_due_since
    assert since is not None
    client.post(url(it.org_id), headers=admin)
    assert it.row.past_due_since == since


def test_an_old_open_invoice_does_not_date_a_new_spell(client, admin, billed, sandbox, stripe):
    """An invoice of an earlier spell may stay open; a customer who was paid up since is not suspended for it."""
    it = billed("pro")
    sandbox.payment(it.customer, "decline")
    sandbox.advance(32 * 86400)
    client.post(url(it.org_id), headers=admin)
    first = it.row.past_due_since
    sandbox.patch(it.subscription, {"status": "active"})
    client.post(url(it.org_id), headers=admin)
    assert it.row.past_due_since is None
    sandbox.patch(it.subscription, {"status": "past_due"})
    client.post(url(it.org_id), headers=admin)
    assert it.row.past_due_since is not None
    assert it.row.past_due_since >= first
    assert it.row.past_due_since == it.row.current_period_start


def test_an_override_stays_in_force(client, admin, billed):
    from billing_service.documents import Override

    it = billed("starter", stored=False)
    Subscription.objects(organization=it.org_id).update_one(set__override=Override(plan="business", actor="ada"))
    answer = client.post(url(it.org_id), headers=admin)
    assert answer.json["plan"] == "business"
    assert (it.row.stripe_plan, it.row.plan, it.plan) == ("starter", "business", "business")


def test_a_dry_run_writes_nothing_and_tells_the_same(client, admin, billed, frozen):
    it = billed("pro", stored=False)
    with frozen:
        foretold = client.post(url(it.org_id, "?dryRun=true"), headers=admin)
    assert foretold.status_code == 200
    assert foretold.json["dryRun"] is True
    assert len(AdminAction.objects) == len(AdminOperation.objects) == 0
    done = client.post(url(it.org_id), headers=admin)
    assert foretold.json["changed"] == done.json["changed"]
    assert foretold.json["updated"]["plan"] == done.json["updated"]["plan"]


def test_the_same_key_gives_the_same_answer(client, admin, billed, sandbox):
    it = billed("pro", stored=False)
    headers = admin | {"Idempotency-Key": "sync-1"}
    first = client.post(url(it.org_id), headers=headers, json={"note": "a"})
    sandbox.clear_requests()
    again = client.post(url(it.org_id), headers=headers, json={"note": "a"})
    assert again.json == first.json
    assert again.headers["Idempotency-Replayed"] == "true"
    assert sandbox.requests()["count"] == 0
    other = client.post(url(ObjectId()), headers=headers)
    assert (other.status_code, other.json["code"]) == (422, "idempotency_mismatch")


def test_a_refusal_is_the_keys_answer_too(client, admin, billed, stripe, price):
    it = billed(None, stored=False)
    headers = admin | {"Idempotency-Key": "sync-2"}
    first = client.post(url(it.org_id), headers=headers)
    stripe.subscriptions.update(it.subscription, {"metadata": {"changed": "yes"}})
    again = client.post(url(it.org_id), headers=headers)
    assert first.status_code == again.status_code == 409
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    names = ("code", "title", "detail", "priceId")
    assert {name: first.json[name] for name in names} == {name: again.json[name] for name in names}


def test_an_outage_is_not_the_keys_answer(client, admin, billed, sandbox):
    it = billed("pro", stored=False)
    headers = admin | {"Idempotency-Key": "sync-3"}
    fault = sandbox.arm("error", status=500, times=None)
    assert client.post(url(it.org_id), headers=headers).status_code == 502
    sandbox.disarm(fault["id"])
    assert client.post(url(it.org_id), headers=headers).status_code == 200


def test_it_is_recorded_before_and_after(client, admin, billed):
    it = billed("pro", stored=False)
    client.post(url(it.org_id), headers=admin | {"X-Request-Id": "request-0001"}, json={"note": "they paid"})
    intent, outcome = AdminAction.objects(organization=it.org_id).order_by("id")
    assert (intent.phase, intent.outcome) == ("intent", "pending")
    assert (outcome.phase, outcome.outcome) == ("outcome", "succeeded")
    for row in (intent, outcome):
        assert (row.actor, row.role, row.action, row.note) == ("ada@example.com", "admin", "sync", "they paid")
        assert row.request_id == "request-0001"
    assert (outcome.before["plan"], outcome.after["plan"]) == ("free", "pro")


def test_the_organization_and_its_row_agree(client, admin, billed):
    it = billed("pro")
    Organization.objects(id=it.org_id).update_one(set__plan="free")
    client.post(url(it.org_id), headers=admin)
    assert it.plan == it.row.plan == "pro"


@pytest.mark.parametrize("key", ["", " ", "two words", "x" * 256, "schl\u00fcssel", "tab\tbed"])
def test_a_malformed_key_is_refused(client, admin, billed, frozen, key):
    it = billed("pro", stored=False)
    with frozen:
        answer = client.post(url(it.org_id), headers=admin | {"Idempotency-Key": key})
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request")
    assert "Idempotency-Key" in answer.json["errors"]
