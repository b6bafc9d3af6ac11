"""The overview: whether all is well, in words, and looked at again without getting in anybody's way."""

import json
import os
import signal
import time
from datetime import timedelta

import pytest
import redis
from playwright.sync_api import expect

from .conftest import paste
from .furnishing import furnish

TEXTS = {"name": "Fjord Cartography", "note": "Ticket 4182.", "error": "no plan for that price", "live": "Fjord AS"}


@pytest.fixture
def overview(page, admin):
    def show():
        page.goto("/console")
        if page.locator("#sign-in-dialog").is_visible():
            paste(page, admin)
        expect(page.get_by_role("heading", name="Overview", level=1)).to_be_visible()
        return page

    return show


@pytest.fixture
def working(worker, environment):
    """A worker that has made itself known."""
    queue, deadline = redis.Redis.from_url(environment["REDIS_URL"]), time.monotonic() + 30
    while not queue.scard("rq:workers"):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def event(runtime, **fields):
    from billing_service.documents import WebhookEvent

    now = runtime.clock()
    stored = {
        "created": now,
        "received_at": now,
        "source": "delivery",
        "payload": json.dumps({}),
        "type": "invoice.paid",
    }
    return WebhookEvent(**stored | {"event_id": "evt_1", "state": "succeeded"} | fields).save(force_insert=True)


def figure(page, name):
    return page.locator(".tile", has=page.get_by_role("heading", name=name)).locator(".figure")


def test_all_is_well_is_said_when_it_is(overview, working, runtime):
    event(runtime, outcome="applied")
    page = overview()
    expect(page.locator("#verdict")).to_have_text("All is well")
    expect(figure(page, "Oldest unhandled event")).to_have_text("none")
    expect(figure(page, "Dead letters")).to_have_text("0")
    expect(figure(page, "Last verified delivery")).to_contain_text("ago")
    expect(figure(page, "Stripe")).to_have_text("reachable")
    expect(figure(page, "Workers")).to_have_text("1")
    expect(page.locator(".verdict")).to_have_class("verdict good")


def test_what_is_wrong_is_said_the_worst_first(overview, runtime, stripe, customer):
    furnish(runtime=runtime, stripe=stripe, customer=customer, texts=TEXTS)
    event(runtime, event_id="evt_late", state="received", received_at=runtime.clock() - timedelta(hours=3))
    page = overview()
    expect(page.locator("#verdict")).to_have_text("5 things to look at now")
    points = page.locator(".points li").all_inner_texts()
    said = ["No worker is running", "waited for 3 hours (invoice.paid)", "critical finding", "2 dead letters", "refund"]
    assert [words for words in said if not any(words in point for point in points)] == []
    urgent = page.locator(".points .chip").all_inner_texts()
    assert urgent == ["now"] * 3 + ["soon"] * 2
    page.get_by_role("link", name="2 dead letters").click()
    expect(page.get_by_role("heading", name="Dead letters", level=1)).to_be_visible()


def test_the_charts_say_the_same_in_words_and_as_tables(overview, runtime, stripe, customer):
    furnish(runtime=runtime, stripe=stripe, customer=customer, texts=TEXTS)
    page = overview()
    hours = page.locator('figure[aria-labelledby="hours-title"]')
    expect(hours).to_contain_text("6 events arrived, 3 of them failed or are dead.")
    hours.get_by_text("As a table").click()
    rows = hours.locator("tbody tr")
    expect(rows).to_have_count(24)
    counts = [[int(cell) for cell in row.locator("td").all_inner_texts()[1:]] for row in rows.all()[-2:]]
    assert [sum(column) for column in zip(*counts, strict=True)] == [1, 1, 0, 1, 2, 1]
    runs = page.locator('figure[aria-labelledby="runs-title"]')
    expect(runs).to_contain_text("compared 120 subscriptions")
    patterns = hours.locator(".legend pattern").evaluate_all("all => all.map((each) => each.innerHTML)")
    assert len(set(patterns)) == len(patterns) == 6


def test_it_looks_again_and_leaves_focus_and_what_is_open(page, admin, overview, runtime):
    event(runtime)
    page.clock.install()
    overview()
    summary = page.locator("#hours-table summary")
    summary.click()
    expect(summary).to_be_focused()
    event(runtime, event_id="evt_2", state="dead", dead_at=runtime.clock())
    page.evaluate("window.scrollTo(0, 400)")
    page.clock.run_for(31_000)
    expect(figure(page, "Dead letters")).to_have_text("1")
    expect(page.locator("#hours-table")).to_have_attribute("open", "")
    expect(page.locator("#hours-table summary")).to_be_focused()
    assert page.evaluate("window.scrollY") == 400
    expect(page.locator("#said")).to_contain_text("to look at")


def test_a_look_that_fails_leaves_what_was_seen(page, overview, servers, runtime):
    event(runtime)
    page.clock.install()
    overview()
    os.kill(servers.mongod.pid, signal.SIGSTOP)
    try:
        page.clock.run_for(31_000)
        expect(page.locator("#looked")).to_contain_text("The last look failed", timeout=60_000)
        expect(figure(page, "Dead letters")).to_have_text("0")
    finally:
        os.kill(servers.mongod.pid, signal.SIGCONT)
    page.clock.run_for(31_000)
    expect(page.locator("#looked")).not_to_contain_text("failed")


def test_who_may_not_see_dead_letters_is_not_shown_any(page, token, overview, runtime, admin):
    page.goto("/console")
    paste(page, token("support"))
    expect(page.locator("#letters")).to_be_visible()
    assert page.locator("#navigation a").all_inner_texts()[:2] == ["Overview", "Customers"]


def test_redis_being_away_is_said(overview, servers, runtime):
    os.kill(servers.redis.pid, signal.SIGSTOP)
    try:
        page = overview()
        expect(page.locator(".points")).to_contain_text("Redis does not answer", timeout=30_000)
        expect(figure(page, "Workers")).to_have_text("unknown")
    finally:
        os.kill(servers.redis.pid, signal.SIGCONT)
