"""The circuit under a clock that is moved by hand."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from billing_service.errors import StripeCircuitOpen
from billing_service.stripe_gateway.circuit import FAILURES_TO_OPEN, Circuit


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def circuit(clock):
    return Circuit(clock)


def is_admitted(circuit):
    try:
        circuit.admit()
    except StripeCircuitOpen:
        return False
    return True


def fail(circuit, times=FAILURES_TO_OPEN):
    for _ in range(times):
        circuit.failed()


def test_five_failures_in_a_row_open_it(circuit):
    fail(circuit, 4)
    assert is_admitted(circuit)
    assert circuit.state == "closed"
    fail(circuit, 1)
    assert not is_admitted(circuit)
    assert circuit.state == "open"


def test_it_says_when_to_come_back(circuit):
    fail(circuit)
    with pytest.raises(StripeCircuitOpen) as refused:
        circuit.admit()
    assert (refused.value.status, refused.value.retry_after) == (503, 1.0)


def test_a_success_in_between_starts_the_count_again(circuit):
    fail(circuit, 4)
    circuit.succeeded()
    fail(circuit, 4)
    assert circuit.state == "closed"


def test_open_it_admits_one_probe_a_second(circuit, clock):
    fail(circuit)
    clock.now += 0.99
    assert not is_admitted(circuit)
    clock.now += 0.01
    assert is_admitted(circuit)
    assert circuit.state == "half_open"
    assert not is_admitted(circuit)
    circuit.failed()
    assert circuit.state == "open"
    assert not is_admitted(circuit)
    clock.now += 1
    assert is_admitted(circuit)


def test_the_first_success_closes_it(circuit, clock):
    fail(circuit)
    clock.now += 1
    assert is_admitted(circuit)
    circuit.succeeded()
    assert circuit.state == "closed"
    assert is_admitted(circuit)
    assert is_admitted(circuit)


def test_a_probe_that_never_ends_does_not_hold_it(circuit, clock):
    fail(circuit)
    clock.now += 1
    assert is_admitted(circuit)
    clock.now += 1
    assert circuit.state == "open"
    assert is_admitted(circuit)


def test_late_failures_do_not_put_the_next_probe_off(circuit, clock):
    fail(circuit)
    clock.now += 0.9
    fail(circuit, 3)
    clock.now += 0.1
    assert is_admitted(circuit)


def test_of_many_threads_one_is_the_probe(circuit, clock):
    fail(circuit)
    clock.now += 1
    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(lambda _: is_admitted(circuit), range(200))) == 1
