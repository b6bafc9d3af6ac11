"""The console in Chromium: how long until a person sees the first data, with a full ledger and with an empty one."""

import contextlib
import os
import shutil
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from billing_service import create_app, tokens
from billing_service.settings import Settings

from .installation import Installation
from .ledger import emptied
from .scale import Scale

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")
MOST = 2.0
SECONDS = 60
# Each view: its address, what its first data are, and what is there when all its parts are.
VIEWS = {
    "Overview": ("#/overview", ".tiles", "#letters ~ div:not([aria-busy]) :is(table, .empty)"),
    "Customer": (
        "#/customer/{org_id}",
        ".verdict",
        ".charge, #payments ~ div .empty; .timeline li, #timeline ~ div .empty",
    ),
}
# Notes in the page when each of `window.wanted` is first there; from the navigation, in milliseconds.
WATCH = """
window.seen = {};
const observer = new MutationObserver(() => {
  for (const [name, all] of Object.entries(window.wanted)) {
    if (name in window.seen || !all.every((each) => document.querySelector(each))) continue;
    window.seen[name] = performance.now();
  }
  if (Object.keys(window.seen).length < Object.keys(window.wanted).length) return;
  observer.disconnect();
  document.documentElement.dataset.seen = "all";
});
observer.observe(document, { childList: true, subtree: true, attributes: true });
"""


@dataclass(frozen=True)
class Served:
    """A web process on a database, and a browser's session that is signed in there."""

    url: str
    context: Any


def run(installation: Installation, scale: Scale, uri: str) -> None:
    """Print the time to the first data of each view, with both ledgers, and their ratio."""
    program = next((found for found in map(shutil.which, PROGRAMS) if found), None)
    if program is None:
        print("Console: not measured, there is no Chromium here (on Debian: apt-get install chromium)")
        return
    print(f"Console: in Chromium, medians of {scale.opened} times in turn")
    with _two(installation, uri, program) as (full, empty):
        for name, (address, first, whole) in VIEWS.items():
            place = address.format(org_id=installation.population.org_id(0))
            wanted = {"first": [first], "whole": whole.split("; ")}
            pairs = [_both(full, empty, place, wanted, number=number) for number in range(scale.opened + 1)]
            _tell(f"{name}, first data", [(mine["first"], other["first"]) for mine, other in pairs[1:]])
            _tell(f"{name}, all of it", [(mine["whole"], other["whole"]) for mine, other in pairs[1:]])


def _both(full: Served, empty: Served, *how: Any, number: int) -> tuple[dict[str, float], dict[str, float]]:
    """Both, each the first one every other time."""
    if number % 2:
        other = _opened(empty, *how)
        return _opened(full, *how), other
    return _opened(full, *how), _opened(empty, *how)


def _tell(name: str, pairs: list[tuple[float, float]]) -> None:
    mine, other = (statistics.median(each) for each in zip(*pairs, strict=True))
    limit = f", at most {MOST}" if name.endswith("first data") else ""
    print(f"  {name:<34}{mine:7.0f} ms   empty {other:.0f} ms   ratio {mine / other:.2f}{limit}")


@contextlib.contextmanager
def _two(installation: Installation, uri: str, program: str) -> Iterator[tuple[Served, Served]]:
    """The same on the full ledger and on an empty one, both with the first organization."""
    from playwright.sync_api import sync_playwright

    client = installation.database.client
    with emptied(installation, "empty") as other, sync_playwright() as playwright:
        for name in ("letters", "empty"):
            for rows in ("organizations", "subscriptions"):
                key = {"_id" if rows == "organizations" else "organization": installation.population.org_id(0)}
                client[name][rows].replace_one(key, installation.database[rows].find_one(key), upsert=True)
        with installation.web(uri) as full, installation.web(other) as empty:
            browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
            token = _token(installation)
            yield _served(browser, full.port, token), _served(browser, empty.port, token)
            browser.close()


def _token(installation: Installation) -> str:
    app = create_app(Settings.from_env(os.environ | installation.environment))
    with app.app_context():
        return tokens.issue(app.extensions["billing"].settings, "bench", ["admin"], 3600)


def _served(browser: Any, port: int, token: str) -> Served:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.add_init_script(f"sessionStorage.setItem('billing-console-token', '{token}');")
    return Served(f"http://127.0.0.1:{port}/console", context)


def _opened(served: Served, address: str, wanted: dict[str, list[str]]) -> dict[str, float]:
    """Milliseconds from the navigation of a new tab to what is wanted."""
    page = served.context.new_page()
    try:
        page.add_init_script(f"window.wanted = {wanted!r};{WATCH}")
        page.goto(f"{served.url}{address}")
        page.wait_for_selector("[data-seen]", timeout=SECONDS * 1000)
        return page.evaluate("window.seen")
    finally:
        page.close()
