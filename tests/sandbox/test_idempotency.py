"""Idempotency keys, as Stripe documents them."""

import threading
import time

import pytest
import stripe as sdk


def post(http, data, key, path="/v1/customers"):
    return http("POST", path, data, Idempotency_Key=key)


def test_the_first_answer_is_repeated(http, stripe):
    first, second = post(http, {"name": "a"}, "k1"), post(http, {"name": "a"}, "k1")
    assert first.json() == second.json()
    assert "Idempotent-Replayed" not in first.headers
    assert second.headers["Idempotent-Replayed"] == "true"
    assert second.headers["Original-Request"] == first.headers["Request-Id"]
    assert len(stripe.customers.list().data) == 1


@pytest.mark.parametrize(("data", "path"), [({"name": "b"}, "/v1/customers"), ({"name": "a"}, "/v1/products")])
def test_another_request_is_refused(http, data, path):
    post(http, {"name": "a"}, "k1")
    answer = post(http, data, "k1", path)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "idempotency_error")


def test_the_sdk_raises_its_own_error(stripe):
    stripe.customers.create({"name": "a"}, {"idempotency_key": "k1"})
    with pytest.raises(sdk.IdempotencyError):
        stripe.customers.create({"name": "b"}, {"idempotency_key": "k1"})


def test_a_key_lives_a_day(http, control, stripe):
    post(http, {"name": "a"}, "k1")
    control.advance(86401)
    assert "Idempotent-Replayed" not in post(http, {"name": "b"}, "k1").headers
    assert len(stripe.customers.list().data) == 2


def test_a_stored_500_is_repeated(http, control, stripe):
    control.arm("error", method="POST", status=500)
    assert post(http, {"name": "a"}, "k1").status_code == 500
    again = post(http, {"name": "a"}, "k1")
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (500, "true")
    assert post(http, {"name": "a"}, "k2").status_code == 200
    assert len(stripe.customers.list().data) == 1


def test_a_refusal_of_the_endpoint_is_repeated(http, control):
    first = post(http, {"customer": "cus_none", "items[0][price]": "p"}, "k1", "/v1/subscriptions")
    again = post(http, {"customer": "cus_none", "items[0][price]": "p"}, "k1", "/v1/subscriptions")
    assert (first.status_code, again.headers.get("Idempotent-Replayed")) == (400, "true")


@pytest.mark.parametrize("kind", ["rate_limited", "lock_timeout"])
def test_a_429_is_not_stored(http, control, kind):
    control.arm(kind, method="POST")
    assert post(http, {"name": "a"}, "k1").status_code == 429
    assert post(http, {"name": "a"}, "k1").status_code == 200


def test_a_validation_failure_and_a_wrong_key_are_not_stored(http):
    assert post(http, {"foo": "a"}, "k1").status_code == 400
    assert http("POST", "/v1/customers", {"name": "a"}, key="sk_test_no", Idempotency_Key="k1").status_code == 401
    assert post(http, {"name": "a"}, "k1").status_code == 200


def test_two_at_once(process, http, control):
    """The key is in use until the first one is done, then its answer is repeated."""
    import requests

    control.arm("delay", method="POST", seconds=0.6)
    answers = []

    def send():
        said = {"Authorization": "Bearer sk_test_sandbox", "Idempotency-Key": "k1"}
        answers.append(requests.post(process.url + "/v1/customers", {"name": "a"}, headers=said, timeout=5))

    slow = threading.Thread(target=send)
    slow.start()
    time.sleep(0.2)
    refused = post(http, {"name": "a"}, "k1")
    slow.join()
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "idempotency_key_in_use")
    assert post(http, {"name": "a"}, "k1").json() == answers[0].json()


def test_get_and_delete_ignore_keys(http, stripe):
    customer = stripe.customers.create({})
    assert http("GET", "/v1/customers", Idempotency_Key="k1").status_code == 200
    assert http("DELETE", f"/v1/customers/{customer.id}", Idempotency_Key="k1").status_code == 200
    assert http("DELETE", f"/v1/customers/{customer.id}", Idempotency_Key="k1").status_code == 404
    assert post(http, {"name": "a"}, "k1").status_code == 200


def test_keys_belong_to_an_account(http, control):
    other = control.add_account()["key"]
    post(http, {"name": "a"}, "k1")
    answer = http("POST", "/v1/customers", {"name": "b"}, key=other, Idempotency_Key="k1")
    assert answer.status_code == 200
