"""Events of refunds that admins asked for: in any order, twice, before our own answer, never backwards."""

import itertools

import pytest

from billing_service.documents import AdminAction, AdminOperation, OutboxSignal, RefundRequest, WebhookEvent

URL = "/api/admin/billing/refund"
OF_REFUNDS = ("refund.created", "refund.updated", "refund.failed", "charge.refunded")
ASK = {"method": "POST", "path": r"/v1/refunds$"}


@pytest.fixture
def paid(billed, stripe):
    return stripe.charges.list({"customer": billed("pro").customer}).data[0]


@pytest.fixture
def ask(client, admin, paid):
    def post():
        body = {"chargeId": paid.id, "amountCents": 500, "refundRequestId": "request-1"}
        answer = client.post(URL, headers=admin, json=body)
        return answer.status_code, answer.json

    return post


def state():
    return RefundRequest.objects.get().state


def outcomes():
    return [each.outcome for each in AdminAction.objects(phase="outcome").order_by("at")]


def test_a_pending_refund_is_accepted_and_succeeds_by_its_event(ask, sandbox, arrive, run, row):
    sandbox.pend_refunds()
    status, answer = ask()
    assert (status, answer["state"], answer["stripeStatus"]) == (200, "accepted", "pending")
    arrive("refund.created", "charge.refunded")
    run()
    assert state() == "accepted"
    sandbox.settle_refund(answer["stripeRefundId"], "succeed")
    (event_id,) = arrive("refund.updated")
    run()
    request = RefundRequest.objects.get()
    assert (request.state, request.stripe_status, request.next_check_at) == ("succeeded", "succeeded", None)
    assert (row(event_id).outcome, row(event_id).organization) == ("applied", request.organization)
    assert ask()[1]["state"] == "succeeded"


@pytest.mark.parametrize("kind", ["refund.updated", "refund.failed"])
def test_a_pending_refund_fails_by_its_event(ask, sandbox, arrive, run, kind):
    sandbox.pend_refunds()
    refund = ask()[1]["stripeRefundId"]
    sandbox.settle_refund(refund, "fail", failure_reason="lost_or_stolen_card")
    arrive(kind)
    run()
    request = RefundRequest.objects.get()
    assert (request.state, request.failure_reason) == ("failed", "lost_or_stolen_card")
    assert OutboxSignal.objects(name="refund_failed").get().facts["before"] == "accepted"


def test_a_refund_that_succeeded_can_fail_later(ask, paid, sandbox, arrive, run):
    status, answer = ask()
    assert (status, answer["state"]) == (200, "succeeded")
    sandbox.settle_refund(answer["stripeRefundId"], "fail")
    arrive("refund.failed")
    run()
    assert state() == "failed"
    assert ask()[1]["state"] == "failed"
    told = OutboxSignal.objects(name="refund_failed").get()
    assert told.organization == RefundRequest.objects.get().organization
    names = ("refund_request_id", "charge_id", "amount", "before")
    assert [told.facts[name] for name in names] == ["request-1", paid.id, 500, "succeeded"]


def test_events_out_of_order_and_twice_never_lead_back(ask, sandbox, run, deliver, events_at_stripe):
    sandbox.pend_refunds()
    refund = ask()[1]["stripeRefundId"]
    sandbox.settle_refund(refund, "succeed")
    sandbox.settle_refund(refund, "fail")
    events = events_at_stripe(*OF_REFUNDS)
    assert [each["type"] for each in events] == [
        "refund.created",
        "charge.refunded",
        "refund.updated",
        "refund.updated",
        "refund.failed",
    ]
    for order in itertools.permutations(events):
        RefundRequest.objects.update(set__state="accepted", set__stripe_status="pending", unset__failure_reason=True)
        WebhookEvent.objects.delete()
        seen = ["accepted"]
        for event in (*order, *order):
            deliver(event)
            run()
            seen.append(state())
        ranks = [("accepted", "succeeded", "failed").index(each) for each in seen]
        assert ranks == sorted(ranks)
        assert state() == "failed"
        assert set(WebhookEvent.objects.distinct("state")) == {"succeeded"}


def test_a_charges_event_moves_what_waits_on_it(ask, sandbox, arrive, run):
    """The charge does not name its refunds, so they are listed."""
    sandbox.arm("timeout_after", seconds=1.5, **ASK)
    assert ask()[0] == 202
    arrive("charge.refunded")
    run()
    assert state() == "succeeded"


def test_a_charges_event_costs_no_list_if_nothing_waits(ask, sandbox, arrive, run):
    assert ask()[0] == 200
    arrive("charge.refunded")
    sandbox.clear_requests()
    run()
    assert sandbox.requests(method="GET", path="/v1/refunds$")["items"] == []
    assert state() == "succeeded"


def test_an_event_decides_what_nobody_knew_and_writes_the_outcome(ask, sandbox, arrive, run):
    sandbox.arm("timeout_after", seconds=1.5, **ASK)
    assert ask()[0] == 202
    assert outcomes() == ["unknown"]
    arrive("refund.created")
    run()
    request = RefundRequest.objects.get()
    assert (request.state, request.next_check_at) == ("succeeded", None)
    assert outcomes() == ["unknown", "succeeded"]
    assert AdminOperation.objects.get().state == "done"
    assert request.stripe_refund_id == AdminAction.objects(outcome="succeeded").get().parameters["stripe_refund_id"]


def test_the_event_and_the_request_commit_together(ask, sandbox, arrive, run, row, runtime):
    """A request that cannot be written leaves the event unsettled, too."""
    from mongoengine.connection import get_db

    sandbox.pend_refunds()
    refund = ask()[1]["stripeRefundId"]
    sandbox.settle_refund(refund, "succeed")
    (event_id,) = arrive("refund.updated")
    refuse = {"collMod": "refund_requests", "validator": {"state": {"$ne": "succeeded"}}}
    get_db().command(refuse)
    try:
        run()
        assert (row(event_id).state, state()) == ("failed", "accepted")
    finally:
        get_db().command({"collMod": "refund_requests", "validator": {}})
    run(later=True)
    assert (row(event_id).outcome, state()) == ("applied", "succeeded")


def test_an_event_before_our_own_answer_is_harmless(app, ask, sandbox, arrive, run):
    """The webhook is faster than the answer: it settles the request, the request's own answer completes the rest."""
    import threading
    import time

    sandbox.arm("timeout_after", seconds=0.9, **ASK)
    answers = []
    slow = threading.Thread(target=lambda: answers.append(ask()))
    slow.start()
    deadline = time.monotonic() + 5
    while not sandbox.requests(**ASK)["items"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.2)
    arrive("refund.created")
    run()
    assert (state(), AdminOperation.objects.get().state) == ("succeeded", "started")
    slow.join()
    ((status, answer),) = answers
    assert (status, answer["state"]) == (200, "succeeded")
    assert AdminOperation.objects.get().state == "done"
    assert outcomes() == ["succeeded"]


def test_what_we_took_for_rejected_is_believed_when_stripe_shows_it(ask, arrive, run):
    assert ask()[0] == 200
    RefundRequest.objects.update(set__state="rejected", unset__stripe_refund_id=True)
    arrive("refund.created")
    run()
    assert state() == "succeeded"


def test_a_refund_with_a_strangers_id_or_none_moves_nothing(ask, stripe, paid, arrive, run, row):
    assert ask()[0] == 200
    RefundRequest.objects.update(set__state="accepted")
    stripe.refunds.create({"charge": paid.id, "amount": 1, "metadata": {"refundRequestId": "request-2"}})
    other = stripe.refunds.create({"charge": paid.id, "amount": 2})
    ids = arrive("refund.created")
    run()
    assert [row(each).outcome for each in ids] == ["applied", "ignored", "ignored"]
    assert RefundRequest.objects.get().stripe_refund_id != other.id


def test_an_accepted_one_that_no_event_tells_of_is_looked_at_each_day(ask, sandbox, runtime):
    from datetime import timedelta

    from billing_service import refunds

    sandbox.pend_refunds()
    refund = ask()[1]["stripeRefundId"]
    look = lambda hours: refunds.follow_up_refunds(
        stripe=runtime.stripe, clock=lambda: runtime.clock() + timedelta(hours=hours)
    )
    assert look(25) == 0
    assert state() == "accepted"
    sandbox.settle_refund(refund, "succeed")
    assert look(26) == 0
    assert look(50) == 1
    assert state() == "succeeded"
