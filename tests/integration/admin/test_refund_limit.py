"""MAX_REFUND_AMOUNTS: how much of a charge a role may refund, checked before anything is at Stripe."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from billing_service.documents import AdminAction, RefundRequest

URL = "/api/admin/billing/refund"


@pytest.fixture
def limited(app):
    """The application with a limit of 1000 for billing-ops."""
    before = app.extensions["billing"]
    settings = replace(before.settings, max_refund_amounts={"billing-ops": 1000})
    app.extensions["billing"] = replace(before, settings=settings)
    yield app
    app.extensions["billing"] = before


@pytest.fixture
def charges(billed, stripe):
    """Two paid charges of 4900, of two organizations."""
    return [stripe.charges.list({"customer": billed("pro").customer}).data[0] for _ in range(2)]


@pytest.fixture
def ask(limited, token):
    """Asks for a refund as somebody with roles; returns status and answer."""

    def post(charge, amount, number, *, roles=("billing-ops",), actor="bob", query=""):
        body = {"chargeId": charge.id, "refundRequestId": f"request-{number}"}
        body |= {"amountCents": amount} if amount else {}
        with limited.app_context():  # in threads, too
            answer = limited.test_client().post(URL + query, headers=token(*roles, actor=actor), json=body)
        return answer.status_code, answer.json

    return post


def is_over_the_limit(answer, **facts):
    status, body = answer
    assert (status, body["code"], body["limit"]) == (403, "refund_limit_exceeded", 1000), body
    assert facts.items() <= body.items()
    return True


def made(stripe, charge):
    return sorted(each.amount for each in stripe.refunds.list({"charge": charge.id}).data)


def test_up_to_the_limit(ask, charges, stripe):
    assert ask(charges[0], 1000, 1)[0] == 200
    assert made(stripe, charges[0]) == [1000]


def test_more_is_refused_before_anything_is_at_stripe(ask, charges, stripe, sandbox, frozen):
    sandbox.clear_requests()
    with frozen:
        assert is_over_the_limit(ask(charges[0], 1001, 1), amount=1001, askedBefore=0)
    assert {each["method"] for each in sandbox.requests()["items"]} == {"GET"}
    assert [row.outcome for row in AdminAction.objects.order_by("id")] == ["pending", "failed"]
    assert AdminAction.objects(phase="outcome").get().error.startswith("refund_limit_exceeded")


def test_a_refund_of_the_rest_counts_what_it_comes_to(ask, charges, stripe):
    assert is_over_the_limit(ask(charges[0], None, 1), amount=4900)
    assert ask(charges[0], 4000, 2, roles=("admin",), actor="ada")[0] == 200
    assert ask(charges[0], None, 3)[0] == 200
    assert made(stripe, charges[0]) == [900, 4000]


def test_an_admin_has_no_limit(ask, charges):
    assert ask(charges[0], None, 1, roles=("admin",))[0] == 200


def test_the_most_generous_of_several_roles_counts(ask, charges):
    assert is_over_the_limit(ask(charges[0], 1001, 1, roles=("billing-ops", "support", "auditor")))
    assert ask(charges[0], 1001, 1, roles=("billing-ops", "admin"))[0] == 200


def test_parts_of_a_charge_count_together(ask, charges, stripe):
    """Splitting does not get around the limit; another charge and another person have limits of their own."""
    assert ask(charges[0], 600, 1)[0] == 200
    assert is_over_the_limit(ask(charges[0], 401, 2), askedBefore=600)
    assert ask(charges[0], 400, 3)[0] == 200
    assert is_over_the_limit(ask(charges[0], 1, 4), askedBefore=1000)
    assert ask(charges[1], 1000, 5)[0] == 200
    assert ask(charges[0], 1000, 6, actor="eve")[0] == 200
    assert made(stripe, charges[0]) == [400, 600, 1000]


def test_what_came_back_or_was_never_made_does_not_count(ask, charges, sandbox):
    status, answer = ask(charges[0], 1000, 1)
    assert status == 200
    sandbox.settle_refund(answer["stripeRefundId"], "fail")
    assert is_over_the_limit(ask(charges[0], 1, 2))
    RefundRequest.objects.update(set__state="failed")
    assert ask(charges[0], 1000, 3)[0] == 200


def test_what_nobody_knows_of_counts(ask, charges, sandbox):
    sandbox.arm("drop", method="POST", path="/v1/refunds$", times=3)
    assert ask(charges[0], 1000, 1)[0] == 202
    assert is_over_the_limit(ask(charges[0], 1, 2), askedBefore=1000)
    assert ask(charges[0], 1000, 1)[0] == 200


def test_a_rejected_one_is_not_sent_again_over_the_limit(ask, charges, sandbox, stripe):
    sandbox.arm("rate_limited", method="POST", path="/v1/refunds$", times=1)
    assert ask(charges[0], 2000, 1, roles=("admin",), actor="ada")[0] == 429
    assert is_over_the_limit(ask(charges[0], 2000, 1))
    assert made(stripe, charges[0]) == []


def test_a_dry_run_has_the_limit_too(ask, charges, frozen):
    with frozen:
        assert is_over_the_limit(ask(charges[0], 1001, 1, query="?dryRun=true"))


def test_parts_at_once_do_not_get_around_it(ask, charges, stripe):
    gate = threading.Barrier(4)

    def post(number):
        gate.wait()
        return ask(charges[0], 400, number)[0]

    with ThreadPoolExecutor(4) as pool:
        statuses = list(pool.map(post, range(4)))
    assert set(statuses) <= {200, 403}
    assert sum(made(stripe, charges[0])) <= 1000
    assert RefundRequest.objects(state="succeeded").count() == statuses.count(200)


def test_the_limit_is_not_the_keys_answer(limited, client, token, charges):
    headers = {"Idempotency-Key": "key-1"}
    body = {"chargeId": charges[0].id, "amountCents": 1001, "refundRequestId": "request-1"}
    assert client.post(URL, headers=token("billing-ops") | headers, json=body).status_code == 403
    assert client.post(URL, headers=token("admin") | headers, json=body).status_code == 200
