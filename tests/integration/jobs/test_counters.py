"""What processes count can be added up: gunicorn's workers come in one answer, all others have ports of their own."""

import os
import signal
import time

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from billing_service.jobs import wakeups
from billing_service.sandbox import servers

HOST = servers.HOST


def samples(url):
    answer = requests.get(url, timeout=10)
    assert answer.status_code == 200
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def answered(url):
    """How many requests for /healthz all processes together say that they have answered."""
    key = ("billing_requests_total", ("method", "GET"), ("route", "/healthz"), ("status", "200"))
    return samples(f"{url}/metrics").get(key, 0)


@pytest.fixture
def web(process, eventually):
    """A web process with two workers, and its address."""
    port = servers.free_port()
    child = process("web", "--port", str(port), WEB_WORKERS="2")
    url = f"http://{HOST}:{port}"
    eventually(lambda: servers.answers_http(f"{url}/healthz") and len(children(child.pid)) == 2, seconds=60)
    return child, url


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as listed:
        return {int(each) for each in listed.read().split()}


def ask(url, times):
    for _ in range(times):
        requests.get(f"{url}/healthz", timeout=5)


def test_all_workers_of_gunicorn_are_in_one_answer(web):
    _, url = web
    before = answered(url)
    ask(url, 60)
    assert {answered(url) - before for _ in range(12)} == {60}


def test_nothing_is_uncounted_when_workers_die_or_are_replaced(web, eventually):
    """A counter that fell would look like a restart, and everything before it would be counted once more."""
    master, url = web
    before = answered(url)
    ask(url, 20)
    first = children(master.pid)
    for worker in first:
        os.kill(worker, signal.SIGKILL)
    eventually(lambda: len(children(master.pid)) == 2 and not children(master.pid) & first, seconds=60)
    eventually(lambda: servers.answers_http(f"{url}/readyz"), seconds=60)
    assert answered(url) - before >= 20
    second = children(master.pid)
    counted = answered(url)
    master.send_signal(signal.SIGHUP)
    eventually(lambda: len(children(master.pid)) == 2 and not children(master.pid) & second, seconds=60)
    ask(url, 5)
    assert answered(url) >= counted + 5


def test_a_dead_workers_circuit_is_not_told(web, eventually, sandbox, token):
    """A gauge is of processes that live."""
    master, url = web
    sandbox.arm("error", status=500, path="/v1/customers", times=None)
    admin = token("admin")

    def circuit():
        return samples(f"{url}/metrics")["billing_stripe_circuit_open",]

    def fail():
        requests.get(f"{url}/api/admin/billing/search?q=nobody@example.com", headers=admin, timeout=10)
        return circuit() == 1

    eventually(fail)
    for worker in children(master.pid):
        os.kill(worker, signal.SIGKILL)
    eventually(lambda: servers.answers_http(f"{url}/readyz") and circuit() == 0, seconds=60)


def test_workers_and_scheduler_have_ports_of_their_own(process, eventually, app):
    first = servers.free_port()
    listen = {"METRICS_LISTEN": f"{HOST}:{first}"}
    children = [process("worker", **listen), process("worker", **listen), process("scheduler", **listen)]
    for child in children:
        eventually(lambda child=child: "metrics_served" in child.log.read_text())
    ports = {int(child.log.read_text().partition('"port": ')[2].split(",")[0]) for child in children}
    assert len(ports) == 3
    assert ports <= set(range(first, first + 16))

    def runs():
        key = ("billing_job_runs_total", ("job", "dispatch"), ("result", "succeeded"))
        return sum(samples(f"http://{HOST}:{port}/metrics").get(key, 0) for port in ports)

    wakeups.wake()
    eventually(lambda: runs() >= 1)


def test_metrics_that_cannot_be_shown_stop_nobody(process, eventually):
    child = process("worker", METRICS_LISTEN="203.0.113.1:9101")
    eventually(lambda: "worker_started" in child.log.read_text())
    assert "metrics_not_served" in child.log.read_text()
    time.sleep(0.5)
    assert child.poll() is None
