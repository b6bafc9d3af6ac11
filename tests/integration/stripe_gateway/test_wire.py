"""The gateway over real sockets that misbehave: cut off, trickling, silent, refusing, not JSON."""

import contextlib
import gzip
import os
import threading
import time

import pytest

from billing_service.errors import (
    StripeCircuitOpen,
    StripeMisconfigured,
    StripeNotConfigured,
    StripeRejected,
    StripeUnavailable,
)

ACCOUNT = {"object": "account", "id": "acct_1"}
SUBSCRIPTION = {
    "object": "subscription",
    "id": "sub_1",
    "customer": "cus_1",
    "status": "active",
    "created": 1,
    "items": {"data": []},
}


def refusal_of(call, *args, **kwargs):
    with pytest.raises(StripeUnavailable) as raised:
        call(*args, **kwargs)
    return raised.value


def test_an_answer_over_a_connection_that_is_kept(open_gateway, wire):
    wire.says(ACCOUNT)
    gateway = open_gateway(wire.url + "/")
    for _ in range(3):
        assert gateway.account().value == "acct_1"
    assert (wire.connections, len(wire.requests)) == (1, 3)


def test_a_compressed_answer(open_gateway, wire):
    wire.says(gzip.compress(b'{"object": "account", "id": "acct_1"}'), headers="Content-Encoding: gzip\r\n")
    assert open_gateway(wire.url).account().value == "acct_1"


def test_a_request_says_only_what_stripe_needs(open_gateway, wire):
    wire.says(ACCOUNT)
    open_gateway(wire.url).account()
    head = wire.requests[0].decode().lower()
    assert "stripe-version: 2026-10-28.endive" in head
    assert "authorization: bearer sk_test_sandbox" in head
    assert "telemetry" not in head
    assert "platform" not in head


def test_a_netrc_entry_does_not_replace_the_key(open_gateway, wire, tmp_path, in_child):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login a password b\n")
    wire.says(ACCOUNT)
    gateway = open_gateway(wire.url)
    in_child(lambda: [os.environ.update(NETRC=str(netrc)), gateway.account().value])
    assert b"Bearer sk_test_sandbox" in wire.requests[0]


def test_a_truncated_answer(open_gateway, wire):
    wire.says(b'{"object": "account"', length=4000)
    assert "did not answer" in refusal_of(open_gateway(wire.url).account).detail
    assert len(wire.requests) == 3


def test_an_answer_that_trickles_ends_in_time(open_gateway, wire):
    wire.says(ACCOUNT, pause=0.3)
    began = time.monotonic()
    gateway = open_gateway(wire.url, read_timeout=1.0, connect_timeout=0.5)
    refusal_of(gateway.cancel_now, "sub_1", prorate=False, invoice_now=False)
    assert 1.5 <= time.monotonic() - began < 2.2


def test_a_silent_server_ends_in_time_and_may_have_acted(open_gateway, wire):
    gateway = open_gateway(wire.url, read_timeout=0.5)
    began = time.monotonic()
    refusal = refusal_of(gateway.cancel_now, "sub_1", prorate=False, invoice_now=False)
    assert refusal.effect_possible is True
    assert len(wire.requests) == 1
    assert 0.5 <= time.monotonic() - began < 1.5


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"object": "acc', b"[]", b"null", b"\xff", b'{"object": "charge"}'])
def test_an_answer_that_is_not_stripes(open_gateway, wire, body):
    wire.says(body)
    refusal_of(open_gateway(wire.url).account)


def test_a_cancel_answered_with_nonsense_may_have_acted(open_gateway, wire):
    wire.says(SUBSCRIPTION | {"created": "x"})
    gateway = open_gateway(wire.url)
    assert refusal_of(gateway.cancel_now, "sub_1", prorate=False, invoice_now=False).effect_possible is True
    assert refusal_of(gateway.subscription, "sub_1").effect_possible is False
    assert gateway.circuit.state == "closed"


def test_pages_without_an_end(open_gateway, wire):
    gateway = open_gateway(wire.url)
    wire.says({"object": "list", "data": [], "has_more": True})
    refusal_of(gateway.subscriptions_of, "cus_1")
    wire.requests.clear()
    wire.says({"object": "list", "data": [SUBSCRIPTION], "has_more": True})
    with pytest.raises(StripeRejected, match="1000"):
        gateway.subscriptions_of("cus_1")
    assert len(wire.requests) == 10


def test_a_redirect_is_not_followed(open_gateway, wire):
    wire.says(b"", status="302 Found", headers=f"Location: {wire.url}/elsewhere\r\n")
    refusal_of(open_gateway(wire.url).cancel_at_period_end, "sub_1", idempotency_key="k")
    assert all(b"POST /v1/subscriptions/sub_1 " in request for request in wire.requests)


def test_a_proxy_that_answers_401_is_not_a_bad_key(open_gateway, wire):
    wire.says(b"<html>log in</html>", status="401 Unauthorized")
    refusal_of(open_gateway(wire.url).account)
    wire.says({"error": {"type": "invalid_request_error", "message": "Invalid API Key"}}, status="401 Unauthorized")
    with pytest.raises(StripeMisconfigured):
        open_gateway(wire.url).account()


def test_a_refused_connection_had_no_effect_and_opens_the_circuit(open_gateway, wire, closed_port):
    gateway = open_gateway(f"http://127.0.0.1:{closed_port}")
    for _ in range(2):
        refusal = refusal_of(gateway.cancel_now, "sub_1", prorate=False, invoice_now=False)
        assert refusal.effect_possible is False
        assert "not sent" in refusal.detail
    assert gateway.circuit.state == "open"
    with pytest.raises(StripeCircuitOpen):
        gateway.account()


def test_the_circuit_opens_probes_once_and_closes(open_gateway, wire):
    wire.says({"error": {"type": "api_error"}}, status="500 Oops")
    gateway = open_gateway(wire.url)
    for _ in range(2):
        refusal_of(gateway.account)
    assert gateway.circuit.state == "open"
    assert len(wire.requests) == 5

    def attempt():
        with contextlib.suppress(StripeUnavailable, StripeCircuitOpen):
            gateway.account()

    time.sleep(1.05)
    threads = [threading.Thread(target=attempt) for _ in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(wire.requests) == 6

    wire.says(ACCOUNT)
    time.sleep(1.05)
    assert gateway.account().value == "acct_1"
    assert gateway.circuit.state == "closed"


def test_without_a_key_nothing_is_sent(open_gateway, wire):
    gateway = open_gateway(wire.url, api_key="")
    for call in (
        gateway.account,
        lambda: gateway.subscription("sub_1"),
        lambda: gateway.events(created_gte=1),
    ):
        with pytest.raises(StripeNotConfigured):
            call()
    assert gateway.circuit.state == "closed"
    assert wire.connections == 0


def test_threads_do_not_share_a_connection(open_gateway, wire):
    wire.says(ACCOUNT)
    gateway = open_gateway(wire.url)
    together = threading.Barrier(6)

    def ask():
        together.wait()
        for _ in range(5):
            assert gateway.account().value == "acct_1"

    threads = [threading.Thread(target=ask) for _ in range(6)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert wire.connections == 6
    assert len(wire.requests) == 30


def test_a_forked_child_has_a_connection_and_a_circuit_of_its_own(open_gateway, wire, in_child):
    wire.says(ACCOUNT)
    gateway = open_gateway(wire.url)
    gateway.account()
    for _ in range(5):
        gateway.circuit.failed()
    parent = os.getpid()
    answer = in_child(lambda: [gateway.account().value, gateway.circuit.state, os.getppid()])
    assert answer == ["acct_1", "closed", parent]
    assert wire.connections == 2
    assert gateway.circuit.state == "open"


def test_as_of_is_stripes_clock_less_the_duration(open_gateway, wire):
    wire.says(ACCOUNT, date="Sun, 22 Nov 2026 03:00:00 GMT", pause=0.03)
    read = open_gateway(wire.url).account()
    assert read.as_of.isoformat().startswith("2026-11-22T02:59:5")
    assert 0.9 <= 60 - (read.as_of.second + read.as_of.microsecond / 1e6) < 3
