"""A refund under each fault of Stripe and the death of the web process, against the running product."""

import json
import os
import re
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
import stripe as sdk
from bson import ObjectId

from billing_service.sandbox.stripe.control import Control

RUNBOOK = Path(__file__).parents[2] / "docs" / "runbooks" / "refund-unknown.md"
ASK = {"method": "POST", "path": r"/v1/refunds$"}
FAULTS = {
    "timeout-after-the-effect": {"kind": "timeout_after", "seconds": 4},
    "timeout-before-the-effect": {"kind": "timeout_before", "seconds": 4},
    "still-executing": {"kind": "delay", "seconds": 6},
    "a-500-that-stripe-keeps": {"kind": "error", "status": 500, "after_effect": True, "stored": True},
}
# Their leases take minutes to run out; in the short run the integration tier kills processes at the same places.
KILLED = ("killed-after-the-effect", "killed-before-the-effect") if os.environ.get("BILLING_TESTS") == "long" else ()
CASES = (*FAULTS, *KILLED)


@pytest.fixture(scope="module")
def running(start):
    with start("--no-demo", STRIPE_READ_TIMEOUT="2.0") as it:
        it.sandbox = Control(it.told["stripeApiBase"])
        it.sandbox.hold()
        # Faults meet the service's key; what happens at Stripe meanwhile is done with another one.
        key = it.sandbox.add_key(key="sk_test_somebody_at_stripe")
        it.stripe = sdk.StripeClient(key, base_addresses={"api": it.told["stripeApiBase"]}, max_network_retries=0).v1
        product = it.stripe.products.create({"name": "Pro"}).id
        monthly = {"product": product, "currency": "usd", "unit_amount": 4900, "recurring": {"interval": "month"}}
        it.price = it.stripe.prices.create(monthly | {"metadata": {"planId": "pro"}}).id
        yield it


def paid(running):
    """A charge of a new organization; faults are over and the circuit is closed when it begins."""
    running.sandbox.disarm()
    time.sleep(1.1)  # an open circuit lets one probe through each second
    org_id = ObjectId()
    url = f"{running.url}/api/billing/organizations/{org_id}"
    told = requests.put(url, headers=running.headers, json={"name": "Org", "slug": f"org-{org_id}"}, timeout=30)
    assert told.status_code == 200
    customer = running.stripe.customers.create({"metadata": {"organizationId": str(org_id)}}).id
    wanted = {"customer": customer, "items": [{"price": running.price}]}
    linked = running.post(f"link/{org_id}", {"stripeSubscriptionId": running.stripe.subscriptions.create(wanted).id})
    assert linked.status_code == 200, linked.text
    return running.stripe.charges.list({"customer": customer}).data[0].id


def refund(running, charge, case):
    body = {"chargeId": charge, "amountCents": 500, "refundRequestId": f"case-{case}", "note": case}
    return running.post("refund", body)


def made(running, charge):
    return running.stripe.refunds.list({"charge": charge}).data


def shown(running, path):
    answer = requests.get(f"{running.url}/api/admin/billing/{path}", headers=running.headers, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]


def killed(running, charge, case):
    """The web processes are killed while one of them waits for Stripe's answer."""
    kind = "timeout_after" if "after" in case else "timeout_before"
    running.sandbox.arm(kind, key="sk_test_sandbox", seconds=4, **ASK)
    running.sandbox.clear_requests()

    def ask():
        with pytest.raises(requests.ConnectionError):
            refund(running, charge, case)

    asking = threading.Thread(target=ask)
    asking.start()
    deadline = time.monotonic() + 10
    while not (made(running, charge) if "after" in case else running.sandbox.requests(**ASK)["items"]):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    master = running.told["pids"]["web"]
    for worker in Path(f"/proc/{master}/task/{master}/children").read_text().split():
        os.kill(int(worker), signal.SIGKILL)
    asking.join()
    deadline = time.monotonic() + 20
    while True:
        try:
            return shown(running, f"refunds?refundRequestId=case-{case}")
        except requests.ConnectionError:
            assert time.monotonic() < deadline
            time.sleep(0.2)


@pytest.fixture(scope="module")
def charges(running):
    """A charge for each case; its refund was asked for under the case's fault, and the sweep has had its time."""
    running.sandbox.hold()  # an event would tell before the sweep does
    found = {}
    for case in CASES:
        found[case] = charge = paid(running)
        if case in FAULTS:
            running.sandbox.arm(**FAULTS[case], key="sk_test_sandbox", times=1, **ASK)
            answer = refund(running, charge, case)
            assert (answer.status_code, answer.json()["state"]) == (202, "unknown"), answer.text
            assert "repeat this id, take no new one" in answer.json()["detail"]
        else:
            (request,) = killed(running, charge, case)
            assert request["state"] == "pending"
    running.sandbox.disarm()
    deadline = time.monotonic() + 240
    while shown(running, "refunds?state=unknown") or shown(running, "refunds?state=pending"):
        assert time.monotonic() < deadline
        time.sleep(1)
    return found


@pytest.mark.timeout(420)
@pytest.mark.parametrize("case", CASES)
def test_it_ends_in_one_refund_and_a_true_state(running, charges, case):
    (at_stripe,) = made(running, charges[case])
    (request,) = shown(running, f"refunds?refundRequestId=case-{case}")
    assert (request["state"], request["stripeRefundId"], request["note"]) == ("succeeded", at_stripe.id, case)
    again = refund(running, charges[case], case)
    assert (again.status_code, again.json()["stripeRefundId"]) == (200, at_stripe.id)
    assert len(made(running, charges[case])) == 1


@pytest.mark.timeout(420)
def test_the_operation_has_its_intent_and_its_outcome(running, charges):
    """The lease of a killed one's operation is longer than its request's, so its outcome may come some sweeps later."""
    for case in CASES:
        rows = rows_of(running, case)
        assert [each["phase"] for each in (rows[0], rows[-1])] == ["intent", "outcome"]
        assert (rows[-1]["outcome"], rows[-1]["note"]) == ("succeeded", case)


def rows_of(running, case):
    """The audit rows of the operation that had a case's refund sent, once they tell of its end."""
    deadline = time.monotonic() + 240
    while True:
        rows = [each for each in shown(running, "audit?action=refund&limit=100") if each["target"] == f"case-{case}"]
        first = min(rows, key=lambda each: each["at"])["operationId"]
        rows = sorted((each for each in rows if each["operationId"] == first), key=lambda each: each["at"])
        if rows[-1]["outcome"] not in ("pending", "unknown"):
            return rows
        assert time.monotonic() < deadline
        time.sleep(1)


def test_equal_requests_at_once_make_one_refund(running):
    charge = paid(running)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: refund(running, charge, "at-once"), range(8)))
    assert {each.status_code for each in answers} <= {200, 409}
    assert len(made(running, charge)) == 1
    assert refund(running, charge, "at-once").json()["state"] == "succeeded"


def test_events_move_a_pending_refund_on(running):
    running.sandbox.pend_refunds()
    answer = refund(running, paid(running), "pending").json()
    assert answer["state"] == "accepted"
    running.sandbox.settle_refund(answer["stripeRefundId"], "succeed")
    running.sandbox.auto()
    running.sandbox.release()
    deadline = time.monotonic() + 30
    while shown(running, "refunds?refundRequestId=case-pending")[0]["state"] != "succeeded":
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.timeout(420)
def test_the_runbooks_commands_work(running, charges):
    case = "timeout-after-the-effect"
    (request,) = shown(running, f"refunds?refundRequestId=case-{case}")
    given = {
        "BASE": f"{running.url}/api/admin/billing",
        "TOKEN": running.told["adminToken"],
        "ID": request["refundRequestId"],
        "CHARGE": charges[case],
        "AMOUNT": "500",
        "ORG": request["orgId"],
    }
    scripts = re.findall(r"```sh\n(.*?)```", RUNBOOK.read_text(), re.DOTALL)
    assert len(scripts) == 4
    for script in scripts:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            env=os.environ | given,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, (script, done.stdout, done.stderr)
    assert json.JSONDecoder().raw_decode(done.stdout)[0]["items"][0]["state"] == "succeeded"
