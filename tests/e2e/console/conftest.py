"""The console in Chromium, against a web process as in production and the real servers."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from playwright.sync_api import Browser, Page, expect, sync_playwright

from billing_service.sandbox import servers as starters

LONG = os.environ.get("BILLING_TESTS") == "long"
SIZES = {"desktop": {"width": 1440, "height": 900}, "phone": {"width": 390, "height": 844}}
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
PASSWORD = "correct horse battery"
# A busy machine may take its time; what never comes is waited for only where a test fails.
expect.set_options(timeout=15_000)


@pytest.fixture(scope="module")
def variables() -> dict[str, str]:
    """What the web process of a module is started with beyond the environment of all tests."""
    return {}


@pytest.fixture(scope="module")
def web(
    environment: dict[str, str], variables: dict[str, str], wired: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The web process as it is run in production; returns its address."""
    port, log = starters.free_port(), tmp_path_factory.mktemp("web") / "web.log"
    url = f"http://{starters.HOST}:{port}"
    command = [sys.executable, "-m", "billing_service.cli", "web", "--port", str(port)]
    with log.open("w") as output:
        process = subprocess.Popen(command, env=environment | variables, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 30
        while not starters.answers_http(f"{url}/readyz"):
            assert process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(30)


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
def tab(browser: Browser, web: str) -> Iterator[Any]:
    """Opens tabs; whatever the test does there, nothing may be asked of another host and no script may fail."""
    faults: list[str] = []
    contexts = []

    def watched(page: Page) -> Page:
        page.set_default_timeout(15_000)
        page.on("request", lambda each: faults.append(each.url) if not each.url.startswith((web, "blob:")) else None)
        page.on("pageerror", lambda each: faults.append(str(each)))
        # A refusal or a loss that a test asks for is an error to Chromium, not to us.
        refused = "Failed to load resource: "
        page.on("console", lambda each: faults.append(each.text) if not each.text.startswith(refused) else None)
        return page

    def make(size: str = "desktop", scheme: str = "light", **more: Any) -> Page:
        context = browser.new_context(viewport=SIZES[size], color_scheme=scheme, base_url=web, **more)
        contexts.append(context)
        return watched(context.new_page())

    make.watched = watched  # type: ignore[attr-defined]
    yield make
    for context in contexts:
        context.close()
    assert faults == []


@pytest.fixture
def page(tab: Any) -> Page:
    return tab()


@pytest.fixture
def person(app: Any, runtime: Any) -> Any:
    """Makes an admin user with PASSWORD."""
    from billing_service import identity

    def make(email: str = "grace@example.com", *roles: str) -> str:
        identity.create(email, list(roles or ["admin"]), PASSWORD, now=runtime.clock(), also=lambda outcome: None)
        return email

    return make


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
        self.ask("POST", f"link/{self.id}", {"stripeSubscriptionId": self.subscription.id})
        return self

    def ask(self, method: str, path: str, body: dict) -> None:
        """Have the service do something."""
        url = f"{self._url}{ADMIN}/{path}"
        answer = requests.request(method, url, json=body, headers=self._headers, timeout=10)
        assert answer.status_code == 200, answer.text

    @property
    def shown(self) -> dict:
        return requests.get(f"{self._url}{ADMIN}/customer/{self.id}", headers=self._headers, timeout=10).json()

    @property
    def row(self) -> Any:
        from billing_service.documents import Subscription

        return Subscription.objects(organization=self.id).first()

    @property
    def plan(self) -> str:
        from billing_service.documents import Organization

        return Organization.objects(id=self.id).first().plan

    @property
    def actions(self) -> list[Any]:
        """What the audit log has of it, the newest first."""
        from billing_service.documents import AdminAction

        return list(AdminAction.objects(organization=self.id).order_by("-at", "-id"))


@pytest.fixture
def customer(app: Any, organization: Any, stripe: Any, price: Any, web: str, admin: dict[str, str]) -> Any:
    def make(name: str = "Fjord Cartography", email: str = "billing@example.com") -> Customer:
        org_id = organization(name=name)
        payer = stripe.customers.create({"name": name[:250], "email": email})
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
    """Sign in with a token, in the dialog that is open."""
    dialog = page.locator("#sign-in-dialog")
    expect(dialog).to_be_visible()
    if dialog.get_by_role("button", name="Use a token instead").is_visible():
        dialog.get_by_role("button", name="Use a token instead").click()
    dialog.get_by_label("Access token").fill(headers["Authorization"].removeprefix("Bearer "))
    dialog.get_by_role("button", name="Sign in").click()


def sign_in(page: Page, email: str = "grace@example.com", password: str = PASSWORD) -> None:
    """Sign in with e-mail and password, in the dialog that is open."""
    dialog = page.locator("#sign-in-dialog")
    dialog.get_by_label("E-mail").fill(email)
    dialog.get_by_label("Password", exact=True).fill(password)
    dialog.get_by_role("button", name="Sign in").click()


def open_as(page: Page, headers: dict[str, str], it: Customer) -> None:
    page.goto(it.address)
    paste(page, headers)
    expect(page.locator(".verdict")).to_be_visible()


def find(page: Page, text: str) -> None:
    """Search as one does who knows the shortcut."""
    expect(page.get_by_label("Find a customer")).to_be_visible()
    page.keyboard.press("/")
    expect(page.get_by_label("Find a customer")).to_be_focused()
    page.keyboard.type(text)
    page.keyboard.press("Enter")


@pytest.fixture
def worker(environment: dict[str, str], app: Any, tmp_path: Any) -> Iterator[None]:
    """A worker process, for what the console only asks for."""
    log = tmp_path / "worker.log"
    command = [sys.executable, "-m", "billing_service.cli", "worker"]
    with log.open("w") as output:
        quick = environment | {"RECONCILE_CONFIRM_SECONDS": "1"}
        process = subprocess.Popen(command, env=quick, stdout=output, stderr=output)
    yield
    assert process.poll() is None, log.read_text()[-2000:]
    # In good order: what a transaction of a killed one has locked would keep the next test waiting.
    process.terminate()
    process.wait(30)


@pytest.fixture
def signed_in(tab: Any, person: Any) -> Any:
    """Opens a signed-in tab of a size at an address of the console."""

    def make(address: str = "", size: str = "desktop", roles: tuple[str, ...] = ("admin",), **more: Any) -> Page:
        page = tab(size, **more)
        person("-".join(["grace", *roles]) + "@example.com", *roles)
        page.goto(f"/console{address}")
        sign_in(page, "-".join(["grace", *roles]) + "@example.com")
        expect(page.locator(".view:not([aria-busy]) h1")).to_be_attached()
        return page

    return make
