"""The demo data, made through a running web process and worker, and what the service then says of each."""

import contextlib
import os
import subprocess
import sys
import time

import pytest
import requests

from billing_service.sandbox import demo, servers

COMMAND = [sys.executable, "-m", "billing_service.cli"]
CUSTOMER = "/api/admin/billing/customer/"


class System:
    """Web and worker as processes, the sandbox delivering to them; `arguments` is what `demo.load` is told."""

    def __init__(self, environment, folder):
        self.port = servers.free_port()
        self.url = f"http://{servers.HOST}:{self.port}"
        self.stripe = environment["STRIPE_API_BASE"]
        self.database = environment["MONGODB_URI"]
        secret = self._endpoint()
        self.environment = {**os.environ, **environment, "STRIPE_WEBHOOK_SECRETS": secret}
        self.folder = folder
        self.processes = []

    def _endpoint(self):
        form = {"url": f"{self.url}/api/billing/webhook", "enabled_events[]": "*"}
        answer = requests.post(
            f"{self.stripe}/v1/webhook_endpoints", data=form, auth=("sk_test_sandbox", ""), timeout=10
        )
        return answer.json()["secret"]

    def run(self, *arguments):
        with (self.folder / f"{arguments[0]}.log").open("w") as log:
            self.processes.append(
                subprocess.Popen([*COMMAND, *arguments], env=self.environment, stdout=log, stderr=log)
            )

    def start(self):
        subprocess.run([*COMMAND, "indexes"], env=self.environment, check=True, capture_output=True)
        self.run("worker")
        self.run("web", "--port", str(self.port))
        deadline = time.monotonic() + 30
        while not servers.answers_http(f"{self.url}/readyz"):
            assert time.monotonic() < deadline, (self.folder / "web.log").read_text()[-2000:]
            time.sleep(0.05)
        return self

    def stop(self):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()

    @property
    def arguments(self):
        return {
            "url": self.url,
            "admin_token": self.token,
            "stripe_api_base": self.stripe,
            "stripe_secret_key": "sk_test_sandbox",
            "mongodb_uri": self.database,
        }

    @property
    def token(self):
        made = subprocess.run([*COMMAND, "token"], env=self.environment, check=True, capture_output=True, text=True)
        return made.stdout.strip()


@pytest.fixture(scope="module")
def system(environment, wired, servers, tmp_path_factory):
    from mongoengine.connection import get_db

    from billing_service.sandbox.stripe.control import Control

    for name in get_db().list_collection_names():
        get_db()[name].delete_many({})
    Control(servers.stripe.url).reset()
    running = System(environment, tmp_path_factory.mktemp("demo"))
    try:
        yield running.start()
    finally:
        running.stop()


@pytest.fixture(scope="module")
def arguments(system):
    return system.arguments


@pytest.fixture(scope="module")
def loaded(arguments):
    return {each.id: each for each in demo.load(**arguments)}


@pytest.fixture(scope="module")
def shown(system, arguments, loaded):
    """What GET /customer says of an organization."""
    headers = {"Authorization": f"Bearer {arguments['admin_token']}"}

    def show(org_id):
        answer = requests.get(f"{system.url}{CUSTOMER}{org_id}", headers=headers, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()

    return show


def everything():
    from mongoengine.connection import get_db

    # Jobs write their own runs while this looks.
    names = sorted(set(get_db().list_collection_names()) - {"job_runs"})
    return {name: sorted(map(str, get_db()[name].find())) for name in names}


@pytest.mark.parametrize("organization", demo.ORGANIZATIONS, ids=lambda each: each.slug)
def test_each_organization_has_the_verdict_that_the_list_promises(shown, organization):
    seen = shown(organization.id)
    assert (seen["verdict"], seen["organization"]["name"]) == (organization.verdict, organization.name)


def test_every_verdict_is_there():
    from billing_service.subscriptions.verdict import VERDICTS

    assert {each.verdict for each in demo.ORGANIZATIONS} == set(VERDICTS)


def test_the_stories_left_their_traces(shown):
    def named(slug):
        return shown(next(each.id for each in demo.ORGANIZATIONS if each.slug == slug))

    paid = named("brightwater-analytics")["live"]["payments"]
    assert [(each["status"], each["amountRefunded"] > 0) for each in paid] == [("succeeded", True), ("failed", False)]
    dead = named("kestrel-media")
    assert "dead" in {each["state"] for each in dead["recentEvents"]}
    assert "organization_conflict" in {each["kind"] for each in dead["openFindings"]}
    assert dead["recentEvents"][0]["eventId"] in dead["explanation"]
    assert [each["action"] for each in named("aldergate-logistics")["audit"]] == ["sync", "sync"]
    from billing_service import extras

    assert extras.balance_of(demo.ORGANIZATIONS[2].object_id) == 100_000
    severities = {each["field"]: each["severity"] for each in named("fjord-cartography")["differences"]}
    assert severities["plan"] == "critical"


def test_there_are_dead_letters_of_several_causes(system, arguments, loaded):
    headers = {"Authorization": f"Bearer {arguments['admin_token']}"}
    url = f"{system.url}/api/admin/billing/dead-letters"
    answer = requests.get(f"{url}/groups", headers=headers, timeout=30).json()
    groups = {each["reasons"][0]: (each["count"], each["type"]) for each in answer["items"]}
    assert groups == {
        "organization_conflict": (1, "customer.subscription.deleted"),
        "organization_unknown": (1, "customer.subscription.created"),
        "wrong_mode": (1, "customer.subscription.updated"),
        "handler_failed": (1, "invoice.paid"),
        "pack_unknown": (1, "checkout.session.completed"),
    }
    letters = requests.get(url, headers=headers, timeout=30).json()["items"]
    attempts = {each["reason"]: each["attempts"] for each in letters}
    assert attempts["handler_failed"] == attempts["organization_unknown"] == 5
    assert attempts["wrong_mode"] == 0


def test_nothing_will_repair_the_drift_unasked(loaded, servers):
    """No look is due that would see it, no webhook is on its way, and Stripe's event list does not tell of it."""
    from billing_service.documents import Subscription, WebhookEvent
    from billing_service.sandbox.stripe.control import Control

    control = Control(servers.stripe.url)
    assert control.settings()["delivery_mode"] == "auto"
    assert [control.deliveries(state=state) for state in ("held", "pending")] == [[], []]
    assert Subscription.objects(verify_at__ne=None).count() == 0
    events = requests.get(f"{servers.stripe.url}/v1/events?limit=100", auth=("sk_test_sandbox", ""), timeout=10).json()
    ledger = {each.event_id for each in WebhookEvent.objects.only("event_id")}
    subscriptions = {each["id"] for each in events["data"] if each["type"].startswith("customer.subscription.")}
    assert subscriptions
    assert subscriptions <= ledger


def test_loading_twice_changes_nothing_and_takes_no_time(loaded, arguments):
    before, started = everything(), time.monotonic()
    demo.load(**arguments)
    assert time.monotonic() - started < 1.0
    assert everything() == before


def test_what_was_repaired_stays_repaired(system, shown, arguments):
    repaired = next(each for each in demo.ORGANIZATIONS if each.slug == "juniper-legal")
    headers = {"Authorization": f"Bearer {arguments['admin_token']}"}
    answer = requests.post(f"{system.url}/api/admin/billing/sync/{repaired.id}", headers=headers, timeout=30)
    assert (answer.status_code, answer.json()["plan"]) == (200, "business")
    demo.load(**arguments)
    assert shown(repaired.id)["verdict"] == "in_sync"


def test_the_fault_is_armed_again(system, shown, arguments, servers):
    from billing_service.sandbox.stripe.control import Control

    Control(servers.stripe.url).disarm()
    unreachable = next(each for each in demo.ORGANIZATIONS if each.verdict == "stripe_unavailable")
    assert shown(unreachable.id)["verdict"] == "in_sync"
    demo.load(**arguments)
    assert shown(unreachable.id)["verdict"] == "stripe_unavailable"


@pytest.mark.parametrize("seconds", [0.5, 1.5, 2.5])
def test_a_start_that_was_killed_is_completed_by_the_next(system, shown, arguments, servers, seconds):
    from mongoengine.connection import get_db

    diary = f"{servers.stripe.url}/v1/products/prod_demo_diary"
    forgotten = {f"metadata[{each.id}]": "" for each in demo.ORGANIZATIONS}
    requests.post(diary, data=forgotten, auth=("sk_test_sandbox", ""), timeout=10).raise_for_status()
    told = {"BILLING_URL": system.url, "BILLING_ADMIN_TOKEN": arguments["admin_token"]}
    child = subprocess.Popen(
        [sys.executable, "-m", "billing_service.sandbox.demo"],
        env=system.environment | told,
        stdout=subprocess.DEVNULL,
    )
    time.sleep(seconds)
    child.kill()
    child.wait()
    demo.load(**arguments)
    assert {each.id: shown(each.id)["verdict"] for each in demo.ORGANIZATIONS} == {
        each.id: each.verdict for each in demo.ORGANIZATIONS
    }
    assert get_db().subscriptions.count_documents({}) == len(demo.ORGANIZATIONS) - 1


def test_it_runs_as_a_program(system, loaded, arguments):
    told = {"BILLING_URL": system.url, "BILLING_ADMIN_TOKEN": arguments["admin_token"]}
    command = [sys.executable, "-m", "billing_service.sandbox.demo"]
    done = subprocess.run(command, env=system.environment | told, capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in done.stdout.splitlines()] == [each.id for each in demo.ORGANIZATIONS]
    without = subprocess.run(command, env=system.environment, capture_output=True, text=True, check=True)
    assert "no admin token" in without.stdout


def test_a_system_that_does_not_answer_is_said_in_a_sentence(system, arguments):
    from billing_service.sandbox.dev_child import CannotStart

    with pytest.raises(CannotStart, match="demo data"):
        demo.load(**arguments | {"stripe_api_base": f"http://{servers.HOST}:{servers.free_port()}"})
