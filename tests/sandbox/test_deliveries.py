"""Webhooks: signed, retried, held, dropped, doubled and reordered."""

import json
import time

import requests
import stripe as sdk


def verified(got, secret):
    headers, body = got
    return sdk.Webhook.construct_event(body, headers["Stripe-Signature"], secret)


def test_it_works(stripe, receiver, endpoint):
    assert endpoint.secret.startswith("whsec_")
    customer = stripe.customers.create({})
    event = verified(receiver.wait(1)[0], endpoint.secret)
    assert (event.type, event.data.object.id) == ("customer.created", customer.id)
    assert event.pending_webhooks == 1


def test_the_secret_is_told_once(stripe, endpoint):
    assert "secret" not in stripe.webhook_endpoints.retrieve(endpoint.id).to_dict()
    assert "secret" not in stripe.webhook_endpoints.list().data[0].to_dict()


def test_only_enabled_types_and_endpoints(stripe, receiver, control):
    wanted = stripe.webhook_endpoints.create({"url": receiver.url, "enabled_events": ["customer.deleted"]})
    stripe.customers.delete(stripe.customers.create({}).id)
    receiver.wait(1)
    assert receiver.types() == ["customer.deleted"]
    stripe.webhook_endpoints.update(wanted.id, {"disabled": True})
    stripe.customers.delete(stripe.customers.create({}).id)
    stripe.webhook_endpoints.delete(wanted.id)
    assert len(control.deliveries()) == 1


def test_the_endpoint_decides_the_shape(stripe, receiver, subscribe):
    stripe.webhook_endpoints.create(
        {"url": receiver.url, "enabled_events": ["customer.subscription.created"], "api_version": "2024-06-20"}
    )
    subscription = subscribe()
    event = json.loads(receiver.wait(1)[0][1])
    assert event["api_version"] == "2024-06-20"
    assert event["data"]["object"]["current_period_end"] == subscription["items"].data[0].current_period_end


def test_retries_follow_the_sandbox_clock(stripe, receiver, endpoint, control):
    control.settings(delivery_retries=[3600, 7200])
    receiver.answers = [500, 503]
    stripe.customers.create({})
    receiver.wait(1)
    time.sleep(0.4)
    assert len(receiver.got) == 1
    control.advance(3601)
    receiver.wait(2)
    time.sleep(0.1)
    control.advance(7201)
    receiver.wait(3)
    time.sleep(0.1)
    delivery = control.deliveries()[0]
    assert (delivery["state"], delivery["attempts"], delivery["last_status"]) == ("succeeded", 3, 200)


def test_it_gives_up(stripe, receiver, endpoint, control):
    control.settings(delivery_retries=[])
    receiver.answers = [500]
    stripe.customers.create({})
    receiver.wait(1)
    time.sleep(0.2)
    assert control.deliveries(state="failed")


def test_two_secrets_while_one_is_rolled(stripe, receiver, endpoint, control):
    rolled = control.roll_secret(endpoint.id, expires_in=3600)
    stripe.customers.create({})
    got = receiver.wait(1)[0]
    assert got[0]["Stripe-Signature"].count("v1=") == 2
    assert verified(got, endpoint.secret).id == verified(got, rolled["secret"]).id
    control.advance(3601)
    stripe.customers.create({})
    assert receiver.wait(2)[1][0]["Stripe-Signature"].count("v1=") == 1


def test_the_signature_is_of_real_time_unless_told_otherwise(stripe, receiver, endpoint, control):
    control.advance(10 * 86400)
    stripe.customers.create({})
    verified(receiver.wait(1)[0], endpoint.secret)
    control.settings(signature_clock="sandbox")
    stripe.customers.create({})
    signed = receiver.wait(2)[1][0]["Stripe-Signature"]
    assert abs(int(signed[2:].partition(",")[0]) - control.now()) < 5


def test_held_deliveries_come_in_the_order_of_the_test(stripe, receiver, endpoint, control):
    control.hold()
    names = ["a", "b", "c"]
    for name in names:
        stripe.customers.create({"name": name})
    held = control.deliveries(state="held")
    assert [json.loads(one["body"])["data"]["object"]["name"] for one in held] == names
    assert receiver.got == []
    control.drop(held[0]["id"])
    control.duplicate(held[1]["id"])
    control.reorder(held[2]["id"], 0)
    outcomes = control.release()
    assert [one["status"] for one in outcomes] == [200, 200, 200]
    came = [json.loads(body)["data"]["object"]["name"] for _, body in receiver.got]
    assert came == ["c", "b", "b"]
    assert len({json.loads(body)["id"] for _, body in receiver.got}) == 2


def test_a_held_delivery_can_be_posted_by_hand(stripe, receiver, endpoint, control):
    control.hold()
    stripe.customers.create({})
    held = control.deliveries()[0]
    requests.post(held["url"], data=held["body"].encode(), headers=held["headers"], timeout=5)
    assert verified(receiver.got[0], endpoint.secret).type == "customer.created"
    assert control.release([held["id"]])[0]["state"] == "succeeded"


def test_delay(stripe, receiver, endpoint, control):
    control.hold()
    stripe.customers.create({})
    control.delay(control.deliveries()[0]["id"], 0.5)
    time.sleep(0.2)
    assert receiver.got == []
    receiver.wait(1)


def test_resend(stripe, receiver, endpoint, control, events):
    stripe.customers.create({})
    receiver.wait(1)
    control.resend(events("customer.created")[0].id)
    first, second = receiver.wait(2)
    assert json.loads(first[1])["id"] == json.loads(second[1])["id"]


def test_nothing_listens(stripe, control):
    stripe.webhook_endpoints.create({"url": "http://127.0.0.1:9/hook", "enabled_events": ["*"]})
    control.hold()
    stripe.customers.create({})
    outcome = control.release()[0]
    assert (outcome["status"], outcome["state"], outcome["error"]) == (None, "pending", "ConnectionError")
