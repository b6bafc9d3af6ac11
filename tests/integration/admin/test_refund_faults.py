"""A refund whose answer does not arrive: exactly one refund at Stripe, and a true state, whatever happens."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from billing_service import refunds
from billing_service.documents import AdminAction, AdminOperation, Finding, OutboxSignal, RefundRequest

URL = "/api/admin/billing/refund"
ASK = {"method": "POST", "path": r"/v1/refunds$"}
LIST = {"method": "GET", "path": r"/v1/refunds$"}
WORDS = "repeat this id, take no new one"
IN_USE = {"error": {"type": "idempotency_error", "code": "idempotency_key_in_use", "message": "In use."}}
OTHER_PARAMETERS = {"error": {"type": "idempotency_error", "message": "Other parameters."}}


@pytest.fixture
def paid(billed, stripe):
    """A paid charge of 4900 of an organization."""
    return stripe.charges.list({"customer": billed("pro").customer}).data[0]


@pytest.fixture
def ask(app, admin, paid):
    """Asks for a refund of 500 of the charge, by default with the same id; returns status and answer."""

    def post(number=1, **headers):
        body = {"chargeId": paid.id, "amountCents": 500, "refundRequestId": f"request-{number}"}
        answer = app.test_client().post(URL, headers=admin | headers, json=body)
        return answer.status_code, answer.json

    return post


@pytest.fixture
def made(stripe, paid):
    """The refunds that Stripe has made of the charge."""
    return lambda: stripe.refunds.list({"charge": paid.id}).data


@pytest.fixture
def sweep(runtime):
    """Lets the sweep look after refunds, so long from now; returns how many it settled."""

    def look(**ahead):
        runtime.stripe.circuit.succeeded()
        return refunds.follow_up_refunds(stripe=runtime.stripe, clock=lambda: runtime.clock() + timedelta(**ahead))

    return look


def sent(sandbox):
    return sandbox.requests(**ASK)["items"]


def state():
    return RefundRequest.objects.get().state


def outcomes():
    return [each.outcome for each in AdminAction.objects(phase="outcome").order_by("id")]


def is_unknown(answer):
    status, body = answer
    assert (status, body["state"]) == (202, "unknown"), answer
    assert WORDS in body["detail"]
    return True


FAULTS = {
    "timeout after the effect": (("timeout_after",), {"seconds": 1.5}, 1),
    "timeout before the effect": (("timeout_before",), {"seconds": 1.5}, 0),
    "still executing": (("delay",), {"seconds": 2.5}, None),
    "a 500 before the effect that is not kept": (("error",), {"stored": False, "times": 3}, 0),
    "dropped after the effect": (("drop_after",), {"times": 3}, 1),
    "dropped before the effect": (("drop",), {"times": 3}, 0),
}


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("by", ["the sweep", "a repeat of the id"])
def test_each_fault_ends_in_one_refund_and_a_true_state(ask, made, sweep, sandbox, runtime, name, by):
    (kind,), more, effects = FAULTS[name]
    sandbox.arm(kind, **ASK, **more)
    assert is_unknown(ask())
    assert state() == "unknown"
    if effects is not None:
        assert len(made()) == effects
    time.sleep(1.7 if name == "still executing" else 0)
    runtime.stripe.circuit.succeeded()
    if by == "the sweep":
        assert sweep(minutes=2) == 1
    else:
        assert ask()[0] == 200
    (refund,) = made()
    request = RefundRequest.objects.get()
    assert (request.state, request.stripe_refund_id) == ("succeeded", refund.id)
    assert outcomes()[-1] == "succeeded"
    assert AdminOperation.objects(state__ne="done").count() == 0
    assert {each["body"] for each in sent(sandbox)} == {sent(sandbox)[0]["body"]}
    assert {each["idempotency_key"] for each in sent(sandbox)} == {"refund_admin_request-1"}
    assert sweep(minutes=5) == 0
    assert ask()[1]["stripeRefundId"] == refund.id
    assert len(made()) == 1


def test_one_that_is_still_executing_is_not_taken_for_absent(ask, made, sweep, sandbox):
    """The key is in use and the list does not show it: neither says that it was not made."""
    sandbox.arm("delay", seconds=4, **ASK)
    assert is_unknown(ask())
    sandbox.clear_requests()
    assert is_unknown(ask())
    assert {each["status"] for each in sent(sandbox)} == {409}
    assert len(sandbox.requests(**LIST)["items"]) == 1
    assert made() == []
    assert state() == "unknown"
    time.sleep(3)
    assert sweep(minutes=2) == 1
    assert (state(), len(made())) == ("succeeded", 1)


@pytest.mark.parametrize("code", [(409, IN_USE), (400, OTHER_PARAMETERS)])
def test_a_conflict_of_the_key_is_unknown(ask, made, sandbox, code):
    status, body = code
    sandbox.arm("error", status=status, body=body, stored=False, times=3, **ASK)
    assert is_unknown(ask())
    assert RefundRequest.objects.get().error == "stripe_idempotency_conflict"


@pytest.mark.parametrize("by", ["the sweep", "a repeat of the id"])
def test_a_kept_500_after_the_effect_is_decided_by_looking(ask, made, sweep, sandbox, runtime, by):
    sandbox.arm("error", after_effect=True, stored=True, **ASK)
    assert is_unknown(ask())
    runtime.stripe.circuit.succeeded()
    assert sweep(minutes=2) == 1 if by == "the sweep" else ask()[0] == 200
    (refund,) = made()
    assert RefundRequest.objects.get().stripe_refund_id == refund.id
    assert all(each["replayed"] for each in sent(sandbox)[1:])


def test_a_kept_500_without_an_effect_stays_unknown_and_a_finding_tells(ask, made, sweep, sandbox, runtime):
    """Absence never means rejected: after 20 hours a person looks, and takes a new id only then."""
    sandbox.arm("error", stored=True, **ASK)
    assert is_unknown(ask())
    for hours in (1, 5, 19):
        assert sweep(hours=hours) == 0
        assert state() == "unknown"
    assert len(Finding.objects) == 0
    sandbox.clear_requests()
    assert sweep(hours=21) == 0
    assert sent(sandbox) == []
    assert (state(), made()) == ("unknown", [])
    finding = Finding.objects.get()
    assert (finding.kind, finding.severity, finding.stored["amount"]) == ("refund_unresolved", "high", 500)
    told = OutboxSignal.objects.get(name="refund_unresolved")
    assert told.facts["refund_request_id"] == "request-1"
    sandbox.disarm()
    runtime.stripe.circuit.succeeded()
    assert ask(2)[0] == 200
    assert (state_of("request-1"), state_of("request-2"), len(made())) == ("unknown", "succeeded", 1)


def state_of(refund_request_id):
    return RefundRequest.objects.get(refund_request_id=refund_request_id).state


def test_after_20_hours_it_is_only_looked_for_also_by_a_repeat(ask, made, sweep, sandbox, runtime, stripe, paid):
    sandbox.arm("timeout_before", seconds=1.5, **ASK)
    assert is_unknown(ask())
    RefundRequest.objects.update(set__sent_at=runtime.clock() - timedelta(hours=20, seconds=1))
    sandbox.clear_requests()
    assert is_unknown(ask())
    assert (sent(sandbox), made()) == ([], [])
    assert sweep(minutes=61) == 0
    assert Finding.objects.get().state == "open"
    # Stripe carries it out after all (the sandbox takes any caller's metadata for it): the next look decides.
    late = stripe.refunds.create({"charge": paid.id, "amount": 500, "metadata": {"refundRequestId": "request-1"}})
    assert sweep(hours=5) == 1
    assert RefundRequest.objects.get().stripe_refund_id == late.id
    assert Finding.objects.get().state == "resolved"
    assert outcomes()[-1] == "succeeded"
    assert len(made()) == 1


def test_the_finding_and_the_signal_come_once(ask, sweep, sandbox):
    sandbox.arm("timeout_before", seconds=1.5, **ASK)
    assert is_unknown(ask())
    sandbox.arm("drop", times=None)
    for hours in (21, 23, 30, 100):
        assert sweep(hours=hours) == 0
    assert len(Finding.objects) == OutboxSignal.objects(name="refund_unresolved").count() == 1


def test_another_charges_refund_with_our_id_decides_nothing(ask, sweep, sandbox, stripe, billed, made):
    other = stripe.charges.list({"customer": billed("pro").customer}).data[0]
    stripe.refunds.create({"charge": other.id, "metadata": {"refundRequestId": "request-1"}})
    sandbox.arm("error", stored=True, **ASK)
    assert is_unknown(ask())
    assert sweep(minutes=2) == 0
    assert state() == "unknown"


REFUSALS = {
    "a rate limit": ("rate_limited", {"retry_after": 3}, 429, "stripe_rate_limited"),
    "a bad key": ("error", {"status": 401, "stored": False}, 502, "stripe_misconfigured"),
    "a weak key": ("error", {"status": 403, "stored": False}, 502, "stripe_misconfigured"),
    "a lock": ("lock_timeout", {}, 429, "stripe_rate_limited"),
}
NO = {"error": {"type": "invalid_request_error", "message": "No."}}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_certainly_was_not_carried_out_is_rejected_and_sent_again_by_the_same_id(
    ask, made, sweep, sandbox, runtime, name
):
    kind, more, status, code = REFUSALS[name]
    more = more | ({"body": NO} if kind == "error" else {})
    fault = sandbox.arm(kind, times=None, **ASK, **more)
    got, answer = ask()
    assert (got, answer["code"]) == (status, code)
    request = RefundRequest.objects.get()
    assert (request.state, request.error, request.next_check_at) == ("rejected", code, None)
    assert outcomes() == ["failed"]
    sandbox.disarm(fault["id"])
    runtime.redis.client().flushall()
    assert sweep(minutes=5) == 0
    assert made() == []
    assert ask()[0] == 200
    assert (state(), len(made())) == ("succeeded", 1)
    assert outcomes() == ["failed", "succeeded"]


def test_an_open_circuit_is_rejected(ask, made, sandbox, runtime, paid):
    assert ask(1)[0] == 200
    RefundRequest.objects.update(set__state="rejected", unset__stripe_refund_id=True)
    for _ in range(5):
        runtime.stripe.circuit.failed()
    status, answer = ask(1)
    assert (status, answer["code"]) == (503, "stripe_circuit_open")
    assert state() == "rejected"


def test_an_exhausted_budget_is_rejected_with_retry_after(app, ask, admin, paid, runtime):
    assert ask(1)[0] == 200
    RefundRequest.objects.update(set__state="rejected", unset__stripe_refund_id=True)
    runtime.stripe.budget.slow_down(30)
    body = {"chargeId": paid.id, "amountCents": 500, "refundRequestId": "request-1"}
    answer = app.test_client().post(URL, headers=admin, json=body)
    runtime.redis.client().flushall()
    runtime.stripe.budget._bucket.hold_until = 0
    assert (answer.status_code, answer.json["code"], answer.json["budget"]) == (429, "stripe_rate_limited", "ours")
    assert int(answer.headers["Retry-After"]) >= 1
    assert state() == "rejected"


def test_without_a_key_nothing_is_stored(app, ask, environment):
    from dataclasses import replace

    from billing_service.runtime import build
    from billing_service.settings import Settings

    before = app.extensions["billing"]
    app.extensions["billing"] = build(Settings.from_env(environment | {"STRIPE_SECRET_KEY": ""}))
    try:
        status, answer = ask()
    finally:
        app.extensions["billing"] = replace(before)
    assert (status, answer["code"]) == (503, "stripe_not_configured")
    assert len(RefundRequest.objects) == 0


@pytest.mark.parametrize("kind", ["rate_limited", "401", "404"])
def test_what_says_nothing_of_an_earlier_attempt_leaves_it_unknown(ask, made, sweep, sandbox, runtime, kind):
    """The first attempt may have had its effect; a refusal of another one must not be taken for its fate."""
    sandbox.arm("timeout_after" if kind == "rate_limited" else "timeout_before", seconds=1.5, **ASK)
    assert is_unknown(ask())
    gone = {"error": {"type": "invalid_request_error", "code": "resource_missing", "message": "No such charge"}}
    if kind == "rate_limited":
        fault = sandbox.arm("rate_limited", times=None)
    else:
        fault = sandbox.arm("error", times=None, status=int(kind), body=gone, stored=False)
    assert is_unknown(ask())
    assert state() == "unknown"
    sandbox.disarm(fault["id"])
    runtime.redis.client().flushall()
    assert sweep(minutes=2) == 1
    assert (state(), len(made())) == ("succeeded", 1)


def test_stripes_own_refusal_decides_also_later(ask, made, sweep, sandbox, stripe, paid):
    sandbox.arm("timeout_before", seconds=1.5, **ASK)
    assert is_unknown(ask(**{"Idempotency-Key": "key-1"}))
    stripe.refunds.create({"charge": paid.id})
    assert sweep(minutes=2) == 1
    request = RefundRequest.objects.get()
    assert (request.state, request.error) == ("rejected", "stripe_rejected")
    assert outcomes() == ["unknown", "failed"]
    assert AdminOperation.objects.get().state == "failed"
    assert len(made()) == 1


def test_equal_requests_at_once_make_one_refund(app, ask, made, sandbox):
    sandbox.arm("delay", seconds=0.3, **ASK)
    gate = threading.Barrier(6)

    def post(_):
        gate.wait()
        return ask()

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(post, range(6)))
    assert {(status, body.get("code")) for status, body in answers} <= {(200, None), (409, "idempotency_in_progress")}
    assert [status for status, _ in answers].count(200) >= 1
    (refund,) = made()
    assert len(sent(sandbox)) == 1
    assert RefundRequest.objects.get().stripe_refund_id == refund.id
    assert AdminOperation.objects(state="started").count() == 0
    assert ask()[1]["stripeRefundId"] == refund.id


def test_repeats_and_the_sweep_at_once_make_one_refund(app, wired, ask, made, sandbox, sweep):
    sandbox.arm("timeout_before", seconds=1.5, **ASK)
    assert is_unknown(ask())
    gate = threading.Barrier(5)

    def run(work):
        with wired.app_context():
            gate.wait()
            return work()

    with ThreadPoolExecutor(5) as pool:
        list(pool.map(run, [ask, ask, ask, lambda: sweep(minutes=2), lambda: sweep(minutes=3)]))
    assert (state(), len(made())) == ("succeeded", 1)
    sweep(minutes=10)
    assert AdminOperation.objects(state__in=("started", "unknown"), pursued=True).count() == 0


def test_an_answer_that_comes_after_it_was_taken_over_changes_nothing(app, ask, made, sandbox, sweep, runtime):
    """A request so slow that the sweep took it up: both learn of the same refund."""
    sandbox.arm("delay", seconds=0.8, **ASK)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(ask)
        while not RefundRequest.objects.first():
            time.sleep(0.02)
        time.sleep(0.1)
        sweep(seconds=70)  # the key is in use at first
        status, answer = slow.result()
    assert (status, answer["state"]) == (200, "succeeded")
    assert (state(), len(made())) == ("succeeded", 1)
    sweep(minutes=5)
    assert AdminOperation.objects.get().state == "done"


def test_an_unknown_answer_is_not_the_keys(ask, made, sandbox, runtime):
    key = {"Idempotency-Key": "key-1"}
    sandbox.arm("timeout_after", seconds=1.5, **ASK)
    assert is_unknown(ask(**key))
    assert outcomes() == ["unknown"]
    status, answer = ask(**key)
    assert (status, answer["state"]) == (200, "succeeded")
    assert len(AdminOperation.objects) == len(made()) == 1
    assert ask(**key)[1] == answer


def test_who_repeats_completes_the_first_operation_too(ask, made, sandbox):
    sandbox.arm("timeout_after", seconds=1.5, **ASK)
    assert is_unknown(ask(**{"Idempotency-Key": "key-1"}))
    assert ask(**{"Idempotency-Key": "key-2"})[0] == 200
    assert [each.state for each in AdminOperation.objects] == ["done", "done"]
    assert sorted(outcomes()) == ["succeeded", "succeeded", "unknown"]
    assert ask(**{"Idempotency-Key": "key-1"})[1]["state"] == "succeeded"


DIES = """
import sys
from billing_service import create_app, tokens
app = create_app()
with app.app_context():
    token = tokens.issue(app.extensions["billing"].settings, "ada", ["admin"], 5)
    body = {"chargeId": sys.argv[1], "amountCents": 500, "refundRequestId": "request-1", "note": "why"}
    app.test_client().post("/api/admin/billing/refund", json=body, headers={"Authorization": f"Bearer {token}"})
"""


@pytest.mark.parametrize("kind", ["timeout_after", "timeout_before"])
def test_a_process_killed_while_stripe_is_asked_leaves_a_trace_that_is_resolved(
    app, environment, paid, made, sandbox, sweep, kind
):
    sandbox.arm(kind, seconds=8, **ASK)
    slow = os.environ | environment | {"STRIPE_READ_TIMEOUT": "8"}
    process = subprocess.Popen([sys.executable, "-c", DIES, paid.id], env=slow)
    deadline = time.monotonic() + 30
    while not (made() if kind == "timeout_after" else sent(sandbox)):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    assert len(made()) == (1 if kind == "timeout_after" else 0)
    assert (state(), AdminOperation.objects.get().state) == ("pending", "started")
    assert [each.phase for each in AdminAction.objects] == ["intent"]
    assert sweep(seconds=30) == 0
    assert sweep(minutes=1, seconds=10) == 1
    assert (state(), len(made())) == ("succeeded", 1)
    # The operation's own lease is longer; whoever looks after it has run out writes the outcome.
    sweep(minutes=4)
    assert AdminOperation.objects.get().state == "done"
    intent, outcome = AdminAction.objects.order_by("at")
    assert (outcome.phase, outcome.outcome, outcome.actor, outcome.note) == ("outcome", "succeeded", "ada", "why")
    assert outcome.parameters["stripe_refund_id"] == made()[0].id
    assert intent.organization == outcome.organization


def test_a_process_killed_before_it_knew_whose_it_is_leaves_both_rows(app, environment, paid, made, sandbox, runtime):
    from billing_service.operations import settle_lapsed

    sandbox.arm("timeout_before", seconds=8, method="GET", path="/v1/charges/")
    sandbox.clear_requests()
    slow = os.environ | environment | {"STRIPE_READ_TIMEOUT": "8"}
    process = subprocess.Popen([sys.executable, "-c", DIES, paid.id], env=slow)
    deadline = time.monotonic() + 30
    while not sandbox.requests(method="GET", path="/v1/charges/")["items"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    assert len(AdminAction.objects) == len(RefundRequest.objects) == 0
    assert settle_lapsed(clock=lambda: runtime.clock() + timedelta(minutes=15)) == 1
    assert [(each.phase, each.outcome) for each in AdminAction.objects.order_by("id")] == [
        ("intent", "pending"),
        ("outcome", "failed"),
    ]
    assert made() == []


def test_a_killed_process_with_stripe_away_is_written_down_as_unknown(ask, sandbox, sweep, made):
    """What a process leaves that was killed before it could write anything of the answer."""
    sandbox.arm("timeout_after", seconds=1.5, **ASK)
    assert is_unknown(ask())
    AdminAction.objects(phase="outcome").delete()
    AdminOperation.objects.update(set__state="started")
    RefundRequest.objects.update(set__state="pending")
    fault = sandbox.arm("drop", times=None)
    assert sweep(minutes=4) == 0
    assert (state(), AdminOperation.objects.get().state, outcomes()) == ("unknown", "unknown", ["unknown"])
    assert sweep(minutes=6) == 0
    assert outcomes() == ["unknown"]
    sandbox.disarm(fault["id"])
    assert sweep(minutes=20) == 1
    assert (state(), outcomes(), len(made())) == ("succeeded", ["unknown", "succeeded"], 1)


def test_one_pending_for_over_a_minute_is_unknown(ask, made, sandbox, runtime):
    sandbox.arm("drop", times=3, **ASK)
    assert is_unknown(ask())
    RefundRequest.objects.update(set__state="pending", set__lease_until=runtime.clock() + timedelta(seconds=5))
    status, answer = ask()
    assert (status, answer["code"]) == (409, "idempotency_in_progress")
    RefundRequest.objects.update(set__lease_until=runtime.clock() - timedelta(seconds=1))
    sandbox.arm("drop", times=None)
    runtime.stripe.circuit.succeeded()
    assert is_unknown(ask())
    assert state() == "unknown"
    sandbox.disarm()
    assert made() == []


def test_a_stripe_that_does_not_answer_does_not_take_the_sweeps_minute(ask, sandbox, sweep, runtime):
    sandbox.arm("drop", times=None, **ASK)
    for number in range(1, 5):
        runtime.stripe.circuit.succeeded()
        assert is_unknown(ask(number))
    sandbox.arm("delay", seconds=3, times=None)
    begun = time.monotonic()
    assert sweep(minutes=2) == 0
    assert time.monotonic() - begun < 20


def test_one_row_that_cannot_be_read_does_not_hold_up_the_others(ask, sandbox, sweep, made, runtime):
    sandbox.arm("timeout_before", seconds=1.5, **ASK)
    assert is_unknown(ask(1))
    runtime.stripe.circuit.succeeded()
    sandbox.arm("timeout_before", seconds=1.5, **ASK)
    assert is_unknown(ask(2))
    RefundRequest.objects(refund_request_id="request-1").update(set__parameters={}, set__charge="not an id")
    assert sweep(minutes=2) == 1
    assert state_of("request-2") == "succeeded"
