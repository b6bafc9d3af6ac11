"""The console in Chromium, against a running web process and the real servers: stories of an admin."""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests
from playwright.sync_api import Browser, Page, expect, sync_playwright

from billing_service.sandbox import servers as starters

STATIC = Path(__file__).parents[2] / "billing_service" / "blueprints" / "console" / "static"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
ADMIN = "/api/admin/billing"
HOSTILE = '<script>window.harmed = 1</script><img src="x" onerror="window.harmed = 1">'


@pytest.fixture(scope="module")
def web(environment: dict[str, str], wired: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The web process as it is run in production; returns its address."""
    port, log = starters.free_port(), tmp_path_factory.mktemp("web") / "web.log"
    url = f"http://{starters.HOST}:{port}"
    command = [sys.executable, "-m", "billing_service.cli", "web", "--port", str(port)]
    with log.open("w") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 30
        while not starters.answers_http(f"{url}/readyz"):
            assert process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(15)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next((found for found in map(shutil.which, names) if found), None)
    if program is None:
        pytest.fail("There is no Chromium here: install it (on Debian: apt-get install chromium).", pytrace=False)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield running
        running.close()


@pytest.fixture
def page(browser: Browser, web: str) -> Iterator[Page]:
    """A tab; whatever the test does, nothing may be asked of another host and no script may fail."""
    tab = browser.new_context(viewport={"width": 1280, "height": 900}, base_url=web).new_page()
    tab.set_default_timeout(15_000)
    faults: list[str] = []
    tab.on("request", lambda each: faults.append(each.url) if not each.url.startswith(web) else None)
    tab.on("pageerror", lambda each: faults.append(str(each)))
    # A refusal that a test asks for is an error to Chromium, not to us.
    refused = "Failed to load resource: the server responded"
    tab.on("console", lambda each: faults.append(each.text) if not each.text.startswith(refused) else None)
    yield tab
    tab.context.close()
    assert faults == []


@pytest.fixture
def price(stripe: Any) -> Any:
    """Makes a monthly price at Stripe that means the plan."""

    def make(plan: str) -> str:
        product = stripe.products.create({"name": plan})
        wanted = {"product": product.id, "currency": "usd", "unit_amount": 7900, "metadata": {"planId": plan}}
        return stripe.prices.create(wanted | {"recurring": {"interval": "month"}}).id

    return make


class Customer:
    """An organization that pays for Pro and is linked to its subscription."""

    def __init__(self, org_id: Any, subscription: Any, url: str, headers: dict[str, str]):
        self.id = str(org_id)
        self.address = f"/console#/customer/{org_id}"
        self.subscription = subscription
        self._url, self._headers = url, headers

    def link(self) -> "Customer":
        body = {"stripeSubscriptionId": self.subscription.id}
        answer = requests.post(f"{self._url}{ADMIN}/link/{self.id}", json=body, headers=self._headers, timeout=10)
        assert answer.status_code == 200, answer.text
        return self

    @property
    def shown(self) -> dict:
        return requests.get(f"{self._url}{ADMIN}/customer/{self.id}", headers=self._headers, timeout=10).json()


@pytest.fixture
def customer(app: Any, organization: Any, stripe: Any, price: Any, web: str, admin: dict[str, str]) -> Any:
    def make(name: str = "Fjord Cartography") -> Customer:
        org_id = organization(name=name)
        payer = stripe.customers.create({"name": name, "email": "billing@example.com"})
        items = [{"price": price("pro")}]
        return Customer(org_id, stripe.subscriptions.create({"customer": payer.id, "items": items}), web, admin)

    return make


@pytest.fixture
def upgraded(customer: Any, stripe: Any, price: Any) -> Customer:
    """Stripe bills Business, and we grant Pro: the webhook is held."""
    it = customer().link()
    item = {"id": it.subscription["items"]["data"][0]["id"], "price": price("business")}
    stripe.subscriptions.update(it.subscription.id, {"items": [item]})
    return it


def paste(page: Page, headers: dict[str, str]) -> None:
    dialog = page.locator("#sign-in-dialog")
    if dialog.get_by_role("button", name="Use a token instead").is_visible():
        dialog.get_by_role("button", name="Use a token instead").click()
    dialog.get_by_label("Access token").fill(headers["Authorization"].removeprefix("Bearer "))
    dialog.get_by_role("button", name="Sign in").click()


def open_as(page: Page, headers: dict[str, str], it: Customer) -> None:
    page.goto(it.address)
    paste(page, headers)
    expect(page.locator(".verdict")).to_be_visible()


def test_an_admin_repairs_a_customer_who_diverged(page, admin, upgraded):
    page.goto("/console")
    paste(page, admin)
    page.get_by_label("Find a customer").fill(upgraded.id)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Stripe and our row differ")).to_be_visible()
    assert page.url.endswith(upgraded.address)
    row = page.locator('tr[data-field="stripePlan"]')
    expect(row).to_contain_text("differs, medium")
    expect(row.locator("td")).to_have_text(["pro", "business"])

    page.get_by_role("button", name="Sync from Stripe").click()
    dialog = page.locator("#action-dialog")
    expect(dialog).to_contain_text("This will change plan pro to business")
    assert upgraded.shown["stored"]["plan"] == "pro"
    dialog.get_by_label("Note").fill("Ticket 4182: they upgraded yesterday.")
    dialog.get_by_role("button", name="Sync", exact=True).click()
    expect(dialog).to_contain_text("Done: changed plan pro to business")
    dialog.get_by_role("button", name="Close").click()
    expect(page.get_by_role("heading", name="In sync")).to_be_visible()
    expect(page.locator(".differs")).to_have_count(0)
    expect(page.locator(".timeline")).to_contain_text("Ticket 4182: they upgraded yesterday.")
    assert upgraded.shown["stored"]["plan"] == "business"


def test_an_admin_cancels_at_the_end_of_the_period(page, admin, customer, stripe):
    it = customer().link()
    open_as(page, admin, it)
    page.locator('[data-action="cancel"]').click()
    dialog = page.locator("#action-dialog")
    expect(dialog).to_contain_text("This will change plan pro to free")
    dialog.get_by_label("At the end of the period").check()
    confirm = dialog.get_by_role("button", name="Cancel ")
    expect(confirm).to_be_disabled()
    dialog.get_by_role("button", name="Preview").click()
    expect(dialog).to_contain_text("will end with its period")
    confirm.click()
    expect(dialog).to_contain_text("Done")
    assert stripe.subscriptions.retrieve(it.subscription.id).cancel_at_period_end is True
    assert it.shown["stored"]["cancelAtPeriodEnd"] is True


def test_an_admin_links_a_subscription(page, admin, customer):
    it = customer()
    open_as(page, admin, it)
    expect(page.get_by_role("heading", name="Not billed")).to_be_visible()
    expect(page.get_by_role("button", name="Sync from Stripe")).to_be_disabled()
    page.get_by_role("button", name="Link a subscription").click()
    dialog = page.locator("#action-dialog")
    dialog.get_by_label("Subscription id at Stripe").fill(it.subscription.id)
    dialog.get_by_role("button", name="Preview").click()
    expect(dialog).to_contain_text("This will change plan none to pro")
    dialog.get_by_role("button", name=f"Link {it.subscription.id}", exact=True).click()
    expect(dialog).to_contain_text("Done")
    page.keyboard.press("Escape")
    expect(page.get_by_role("heading", name="In sync")).to_be_visible()


def test_one_of_two_subscriptions_has_to_be_named(page, admin, customer, stripe, price):
    it = customer().link()
    second = stripe.subscriptions.create({"customer": it.subscription.customer, "items": [{"price": price("starter")}]})
    open_as(page, admin, it)
    expect(page.get_by_role("heading", name="Billed more than once")).to_be_visible()
    page.locator('[data-action="cancel"]').click()
    dialog = page.locator("#action-dialog")
    dialog.get_by_label("Which one?").select_option(second.id)
    dialog.get_by_role("button", name="Preview").click()
    expect(dialog).to_contain_text(f"{second.id} will be cancelled at once")
    dialog.get_by_role("button", name=f"Cancel {second.id}").click()
    expect(dialog).to_contain_text("Done")
    page.keyboard.press("Escape")
    expect(page.get_by_role("heading", name="In sync")).to_be_visible()
    assert stripe.subscriptions.retrieve(second.id).status == "canceled"


def test_a_token_that_ran_out_is_asked_for_again_and_nothing_typed_is_lost(page, admin, token, upgraded):
    open_as(page, admin, upgraded)
    page.get_by_role("button", name="Sync from Stripe").click()
    dialog = page.locator("#action-dialog")
    expect(dialog).to_contain_text("This will change")
    dialog.get_by_label("Note").fill("They called twice.")
    expired = token("admin", minutes=-5)["Authorization"].removeprefix("Bearer ")
    page.evaluate("expired => sessionStorage.setItem('billing-console-token', expired)", expired)
    dialog.get_by_role("button", name="Sync", exact=True).click()
    expect(page.locator("#sign-in-why")).to_have_text("The token has expired.")
    paste(page, admin)
    expect(dialog).to_contain_text("Done: changed plan pro to business")
    assert [each["note"] for each in upgraded.shown["audit"][:2]] == ["They called twice."] * 2


def test_the_token_is_kept_in_the_tab_alone(page, admin, upgraded):
    open_as(page, admin, upgraded)
    assert page.evaluate("Object.keys(localStorage).length") == 0
    assert page.context.cookies() == []
    page.get_by_role("button", name="Sign out").click()
    assert page.evaluate("Object.keys(sessionStorage).length") == 0


def test_a_role_sees_what_it_may_not_do_and_why(page, token, upgraded):
    open_as(page, token("support"), upgraded)
    expect(page.get_by_role("button", name="Sync from Stripe")).to_be_enabled()
    expect(page.locator('[data-action="cancel"]')).to_be_disabled()
    expect(page.locator(".verdict")).to_contain_text("your role lacks cancel:create")


@pytest.mark.parametrize(("org_id", "words"), [("f" * 24, "There is no organization"), ("x<b>", "malformed")])
def test_a_refusal_is_shown_with_its_request_id(page, admin, app, org_id, words):
    page.goto(f"/console#/customer/{quote(org_id)}")
    paste(page, admin)
    alert = page.locator("#view").get_by_role("alert")
    expect(alert).to_contain_text(words)
    expect(alert).to_contain_text(re.compile("request id [0-9a-f-]{8,}"))


def test_stripe_being_down_leaves_our_side_to_be_seen(page, admin, customer, sandbox):
    it = customer().link()
    sandbox.arm("lock_timeout", path=f"/{it.subscription.customer}$", times=None)
    open_as(page, admin, it)
    expect(page.get_by_role("heading", name="Stripe did not answer")).to_be_visible()
    expect(page.locator('tr[data-field="plan"] td')).to_have_text(["pro", "not known"])


def test_hostile_strings_are_text(page, admin, customer, web):
    it = customer(HOSTILE).link()
    requests.post(f"{web}{ADMIN}/sync/{it.id}", json={"note": HOSTILE}, headers=admin, timeout=10).raise_for_status()
    open_as(page, admin, it)
    expect(page.get_by_role("heading", level=1)).to_have_text(HOSTILE)
    expect(page.locator(".timeline")).to_contain_text(HOSTILE)
    page.get_by_role("button", name="Sync from Stripe").click()
    expect(page.locator("#action-dialog")).to_contain_text(HOSTILE)
    assert page.evaluate("window.harmed") is None
    assert page.locator("main img, main script, dialog img, dialog script").count() == 0


@pytest.mark.parametrize("width", [360, 390, 768, 1440])
def test_nothing_sticks_out_of_the_page(page, admin, upgraded, width):
    page.set_viewport_size({"width": width, "height": 800})
    open_as(page, admin, upgraded)
    beyond = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(beyond) == 0
    page.get_by_role("button", name="Sync from Stripe").click()
    expect(page.locator("#action-dialog")).to_contain_text("This will change")
    assert page.locator("#action-dialog").evaluate("each => each.scrollWidth - each.clientWidth") == 0


def test_the_page_works_by_keyboard(page, admin, upgraded):
    open_as(page, admin, upgraded)
    page.locator('[data-action="sync"]').focus()
    page.keyboard.press("Enter")
    dialog = page.locator("#action-dialog")
    expect(dialog.get_by_role("button", name="Sync", exact=True)).to_be_enabled()
    expect(dialog.get_by_label("Note")).to_be_focused()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(page.locator('[data-action="sync"]')).to_be_focused()


def test_the_policy_forbids_everything_inline_and_foreign(web):
    answer = requests.get(f"{web}/console", timeout=10)
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert {policy["script-src"], policy["style-src"], policy["connect-src"]} == {"'self'"}
    assert not re.search(r"style=|\son\w+=|<script>|<style", answer.text)


def test_data_never_becomes_markup():
    forbidden = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|eval\(|new Function")
    sources = sorted(STATIC.rglob("*.js"))
    assert sources
    assert [path.name for path in sources if forbidden.search(path.read_text())] == []
