"""What holds of every view: it is accessible, fits on every screen, and shows what others wrote as text only."""

import os
import re
import signal
from importlib.resources import files
from pathlib import Path

import pytest
import requests
from playwright.sync_api import expect

from .conftest import LONG, SIZES, paste
from .furnishing import DIALOGS, VIEWS, address, furnish

STATIC = Path(__file__).parents[3] / "billing_service" / "blueprints" / "console" / "static"
AXE = (files("axe_playwright_python") / "axe.min.js").read_text()
PLAIN = {"name": "Fjord Cartography", "note": "Ticket 4182.", "error": "no plan for that price", "live": "Fjord AS"}
MARKUP = '<script>window.harmed = 1</script><img src="x" onerror="window.harmed = 1">'
HOSTILE = {
    "markup": MARKUP,
    "quotes": "\"><svg onload='window.harmed=1'>'`${window.harmed=1}` {{7*7}} &amp; &lt;b&gt; \\u003c",
    "other direction": "\u202eevil\u202c \u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627 \u2066x\u2069 "
    "e\u0301\u0301\u0301 \U0001f469\u200d\U0001f469\u200d\U0001f466",
    "10,000 characters": "W" * 10_000,
    "null": "null",
    "script address": "javascript:window.harmed=1",
}
# Each test goes through all views.
pytestmark = pytest.mark.timeout(600)
WIDTHS = [360, 390, 768, 1440, 2560]


@pytest.fixture
def furnished(runtime, stripe, customer):
    return lambda texts=PLAIN: furnish(runtime=runtime, stripe=stripe, customer=customer, texts=texts)


@pytest.fixture
def signed_in(tab, admin):
    """A tab of somebody who may see everything."""

    def make(**how):
        page = tab(**how)
        page.goto("/console")
        paste(page, admin)
        expect(page.locator("#navigation a")).not_to_have_count(0)
        return page

    return make


def open_view(page, view, there):
    """Go to a view, and wait until all its parts have loaded."""
    page.goto(address(view, there))
    arrived(page, view)
    return view.name


def arrived(page, view):
    expect(page.locator(".view:not([aria-busy])")).to_be_visible()
    for selector in view.ready.split(", "):
        expect(page.locator(selector).first, view.name).to_be_visible()


def violations(page):
    """What axe-core finds wrong; it is run by the driver, which the page's policy does not hold up."""
    page.evaluate(AXE)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [(each["id"], each["help"], [node["target"] for node in each["nodes"]][:5]) for each in found]


@pytest.mark.parametrize("size", SIZES if LONG else ["desktop"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_view_is_accessible(scheme, size, furnished, signed_in):
    # While one view fades into the next its colours are others.
    there, page, wrong = furnished(), signed_in(scheme=scheme, size=size, reduced_motion="reduce"), {}
    for view in VIEWS:
        name = open_view(page, view, there)
        page.locator("details").evaluate_all("all => all.forEach((each) => { each.open = true })")
        wrong[name] = violations(page)
    assert {name: found for name, found in wrong.items() if found} == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_dialogs_are_accessible(scheme, furnished, signed_in, tab):
    page = tab(scheme=scheme)
    page.goto("/console")
    expect(page.locator("#sign-in-dialog")).to_be_visible()
    assert violations(page) == []
    there, page = furnished(), signed_in(scheme=scheme)
    for view in VIEWS:
        if view.name not in DIALOGS:
            continue
        open_view(page, view, there)
        buttons = page.locator(DIALOGS[view.name])
        expect(buttons).not_to_have_count(0)
        for button in buttons.all():
            button.click()
            dialog = page.locator("#action-dialog")
            expect(dialog.locator("form:not([aria-busy])")).to_be_visible()
            assert violations(page) == [], button
            page.keyboard.press("Escape")
            expect(dialog).to_be_hidden()


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_others_wrote_is_text(kind, furnished, signed_in):
    texts = dict.fromkeys(PLAIN, HOSTILE[kind])
    there, page = furnished(texts), signed_in()
    for view in VIEWS:
        name = open_view(page, view, there)
        shown = page.locator("main").evaluate("main => main.textContent")
        assert [each for each in view.texts if texts[each][:60] not in shown] == [], name
        assert page.evaluate("window.harmed") is None, name
        assert page.locator("main img, main script, main iframe, main [onerror], main [onload]").count() == 0, name
        links = page.locator("main a").evaluate_all("all => all.map((each) => each.href)")
        ours = ("http://127.0.0.1", "https://dashboard.stripe.com/")
        assert [each for each in links if not each.startswith(ours)] == [], name
        assert beyond(page) == 0, name


def beyond(page):
    """By how much the page is wider than the window."""
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


def test_nothing_sticks_out_of_any_view(furnished, signed_in):
    there, page = furnished(), signed_in()
    for view in VIEWS:
        name = open_view(page, view, there)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 800})
            page.wait_for_timeout(100)
            assert beyond(page) == 0, (name, width)


USABLE = "a[href], button:enabled, input:enabled, select:enabled, textarea:enabled, summary, [tabindex='0']"
FOCUSED = """() => {
  const it = document.activeElement;
  window.reached.add(it);
  return [it.outerHTML.slice(0, 120), it === document.body || getComputedStyle(it).outlineStyle];
}"""


def test_everything_is_reached_by_tab_and_seen(furnished, signed_in):
    """The focus goes through all that can be used, once around, and is always marked."""
    there, page = furnished(), signed_in()
    visible = f'[...document.querySelectorAll("{USABLE}")].filter((each) => each.checkVisibility())'
    for view in VIEWS:
        name = open_view(page, view, there)
        page.evaluate("document.activeElement.blur(); window.reached = new Set()")
        seen = []
        # A field for a time has a stop for each of its parts.
        parts = 7 * page.locator("[type='datetime-local']").count()
        for _ in range(page.evaluate(f"{visible}.length") + parts + 3):
            page.keyboard.press("Tab")
            seen.append(page.evaluate(FOCUSED))
        missed = f"{visible}.filter((each) => !window.reached.has(each)).map((each) => each.outerHTML.slice(0, 120))"
        assert page.evaluate(missed) == [], name
        assert [html for html, outline in seen if outline == "none"] == [], name


def test_while_the_store_is_away_each_view_says_so_and_can_be_tried_again(servers, furnished, signed_in):
    there = furnished()
    pages = {view: signed_in() for view in VIEWS if view.asks}
    for view, page in pages.items():
        open_view(page, view, there)
    os.kill(servers.mongod.pid, signal.SIGSTOP)
    try:
        for page in pages.values():
            page.reload()
        for page in pages.values():
            expect(page.locator("main .loading, main .trouble").first).to_be_visible()
        for view, page in pages.items():
            alert = page.locator("main").get_by_role("alert").first
            expect(alert, view.name).to_contain_text("store_unavailable", timeout=60_000)
            expect(alert).to_contain_text(re.compile("request id [0-9a-f]{8,}"))
    finally:
        os.kill(servers.mongod.pid, signal.SIGCONT)
    for view, page in pages.items():
        page.get_by_role("button", name="Try again").first.click()
        arrived(page, view)


def test_empty_stores_are_said_in_words(app, tab, admin):
    page = tab()
    page.goto("/console")
    paste(page, admin)
    expect(page.get_by_role("heading", name="Overview", level=1)).to_be_visible()
    expect(page.locator("#letters ~ div")).to_have_text("No dead letters: everything that arrived was handled.")
    expect(page.get_by_text("None has been completed yet")).to_be_visible()


def test_the_policy_forbids_everything_inline_and_foreign(web):
    answer = requests.get(f"{web}/console", timeout=10)
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
    assert (policy["require-trusted-types-for"], policy["trusted-types"]) == ("'script'", "'none'")
    assert {policy["script-src"], policy["style-src"], policy["connect-src"]} == {"'self'"}
    assert not re.search(r"style=|\son\w+=|<script>|<style", answer.text)
    for path in ["", *(f"/{each.relative_to(STATIC)}" for each in STATIC.rglob("*") if each.is_file())]:
        answer = requests.get(f"{web}/console{path}", timeout=10)
        assert (answer.status_code, answer.headers["X-Content-Type-Options"]) == (200, "nosniff"), path
        assert answer.headers["Content-Security-Policy"], path


def test_data_never_becomes_markup():
    forbidden = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|setHTML|srcdoc"
        r"|eval\(|new Function|setAttribute\(\"style|import\("
    )
    sources = sorted(STATIC.rglob("*.js"))
    assert len(sources) > 15
    assert [path.name for path in sources if forbidden.search(path.read_text())] == []


def test_every_script_and_style_is_of_the_package():
    """What is served is declared as the package's data, and refers to nothing elsewhere."""
    declared = (STATIC.parents[3] / "setup.cfg").read_text()
    folders = {str(each.parent.relative_to(STATIC.parent)) for each in STATIC.rglob("*") if each.is_file()}
    assert [each for each in folders if f"{each}/*" not in declared] == []
    for path in [*STATIC.rglob("*.js"), *STATIC.rglob("*.css"), *STATIC.rglob("*.html")]:
        addresses = set(re.findall(r"https?://[\w./-]+", path.read_text()))
        assert addresses <= {"https://dashboard.stripe.com/", "http://www.w3.org/2000/svg"}, path
