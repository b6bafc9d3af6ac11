"""The view of a customer: both truths, the actions, the timeline."""

import re
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from playwright.sync_api import expect

from .conftest import open_as, paste

HOSTILE = '<script>window.harmed = 1</script><img src="x" onerror="window.harmed = 1">'


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


def test_an_answer_that_was_overtaken_is_not_shown(page, admin, upgraded):
    """Two kinds chosen quickly: whichever answer comes last, the last choice is what is shown."""
    open_as(page, admin, upgraded)
    expect(page.locator(".timeline li").first).to_be_visible()
    held = []
    page.route(re.compile("kind=event"), lambda route: held.append(route))
    chosen = page.get_by_label("Show", exact=True)
    chosen.select_option("event")
    chosen.select_option("action")
    expect(page.locator('.timeline [data-kind="event"]')).to_have_count(0)
    expect(page.locator('.timeline [data-kind="action"]')).not_to_have_count(0)
    with page.expect_response(re.compile("kind=event")):
        held.pop().continue_()
    page.wait_for_timeout(300)
    expect(page.locator('.timeline [data-kind="event"]')).to_have_count(0)
    expect(page.locator('.timeline [data-kind="action"]')).not_to_have_count(0)


def test_ages_are_told_by_the_clock_of_the_service(page, admin, upgraded):
    page.clock.set_system_time(datetime.now(UTC) + timedelta(hours=3))
    open_as(page, admin, upgraded)
    newest = page.locator(".timeline time").first
    expect(newest).to_have_attribute("title", re.compile(r"\((now|\d+ (second|minute)s? ago)\)$"))
