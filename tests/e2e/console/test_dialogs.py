"""The dialogs of actions: what is not known yet, notes that are required, amounts as people type them."""

import re
import time
from datetime import timedelta

import pytest
import requests
from playwright.sync_api import expect

from .conftest import open_as

REFUND = {"method": "POST", "path": r"/v1/refunds$"}


@pytest.fixture(scope="module")
def variables():
    return {"REQUIRE_NOTE": "true", "MAX_REFUND_AMOUNTS": "billing-ops=5000"}


@pytest.fixture
def linked(customer, admin):
    """A paying customer; the service takes no link without a note here."""
    it = customer()
    body = {"stripeSubscriptionId": it.subscription.id, "note": "at the beginning"}
    it.ask("POST", f"link/{it.id}", body)
    return it


@pytest.fixture
def charge(linked, stripe):
    return stripe.charges.list({"customer": linked.subscription.customer}).data[0]


def foretell(page, charge, amount):
    page.locator(f"#refund-{charge.id}").click()
    dialog = page.locator("#action-dialog")
    dialog.get_by_label(re.compile("Amount")).fill(amount)
    dialog.get_by_label("Note").fill("Ticket 9.")
    dialog.get_by_role("button", name="Preview").click()
    expect(dialog).to_contain_text("This will refund")
    return dialog


def asked_for(sandbox):
    return [each["idempotency_key"] for each in sandbox.requests(**REFUND)["items"]]


def test_without_a_note_nothing_is_sent_where_one_is_required(page, admin, linked, sandbox):
    open_as(page, admin, linked)
    page.locator("#act-sync").click()
    dialog = page.locator("#action-dialog")
    sync = dialog.get_by_role("button", name="Sync", exact=True)
    expect(sync).to_be_enabled()
    sync.click()
    expect(dialog.get_by_role("alert")).to_have_text("A note is required: say why.")
    expect(dialog.get_by_label("Note")).to_be_focused()
    assert [each.action for each in linked.actions] == ["link"] * 2
    dialog.get_by_label("Note").fill("Looked at it.")
    sync.click()
    expect(dialog).to_contain_text("Done: nothing had to change.")
    assert linked.actions[0].note == "Looked at it."


def test_a_refund_that_nobody_knows_of_can_only_be_asked_for_again(page, admin, linked, charge, stripe, sandbox):
    from billing_service.documents import RefundRequest

    open_as(page, admin, linked)
    sandbox.arm("timeout_after", seconds=3, key="sk_test_sandbox", **REFUND)
    dialog = foretell(page, charge, "10")
    dialog.get_by_role("button", name="Refund $10.00").click()
    expect(dialog).to_contain_text("Nobody knows yet whether $10.00 were refunded.", timeout=30_000)
    expect(dialog).to_contain_text("repeat this id, take no new one")
    expect(dialog.get_by_label(re.compile("Amount"))).to_be_disabled()
    expect(dialog.get_by_role("button", name="Preview")).to_be_hidden()
    [request] = RefundRequest.objects(charge=charge.id)
    assert request.state == "unknown"
    dialog.get_by_role("button", name="Close").click()

    page.locator(f"#refund-{charge.id}").click()
    expect(dialog.get_by_role("heading")).to_have_text("Ask again for a refund whose outcome is not known")
    dialog.get_by_label("Note").fill("Still not known.")
    time.sleep(1.1)  # the circuit lets one probe through each second
    dialog.get_by_role("button", name="Ask again for $10.00").click()
    expect(dialog).to_contain_text(f"Done: $10.00 of {charge.id}", timeout=30_000)
    assert [each.amount for each in stripe.refunds.list({"charge": charge.id}).data] == [1_000]
    assert set(asked_for(sandbox)) == {f"refund_admin_{request.refund_request_id}"}
    assert RefundRequest.objects(charge=charge.id).first().stripe_refund_id


def test_what_was_refused_may_be_changed_and_is_another_refund(page, admin, linked, charge, stripe, sandbox):
    """Stripe refuses for sure: nothing was done, so the amount can be corrected."""
    open_as(page, admin, linked)
    dialog = foretell(page, charge, "79")
    stripe.refunds.create({"charge": charge.id, "amount": 7_000})
    dialog.get_by_role("button", name="Refund $79.00").click()
    expect(dialog.get_by_role("alert")).to_contain_text("stripe_rejected")
    amount = dialog.get_by_label(re.compile("Amount"))
    expect(amount).to_be_enabled()
    amount.fill("9.00")
    dialog.get_by_role("button", name="Preview").click()
    expect(dialog).to_contain_text("$0.00 will be left")
    dialog.get_by_role("button", name="Refund $9.00").click()
    expect(dialog).to_contain_text(f"Done: $9.00 of {charge.id}")
    assert [each.amount for each in stripe.refunds.list({"charge": charge.id}).data] == [900, 7_000]


def test_twice_pressed_is_once_refunded(page, admin, linked, charge, stripe):
    open_as(page, admin, linked)
    dialog = foretell(page, charge, "10")
    dialog.get_by_role("button", name="Refund $10.00").evaluate("button => { button.click(); button.click(); }")
    expect(dialog).to_contain_text(f"Done: $10.00 of {charge.id}")
    assert len(stripe.refunds.list({"charge": charge.id}).data) == 1


def lost(page, sending):
    """Let the answer of the next refund get lost on its way: `sending` is given how to have it made all the same."""

    def handle(route):
        asked = {"url": route.request.url, "data": route.request.post_data, "headers": route.request.headers}
        sending(lambda: requests.post(**asked, timeout=30))
        route.abort()

    page.route(re.compile(r"/api/admin/billing/refund$"), handle, times=1)


def test_what_is_still_at_work_can_only_be_sent_again_as_it_was(page, admin, linked, charge, stripe, sandbox):
    from billing_service.documents import AdminOperation, database_now

    open_as(page, admin, linked)
    dialog = foretell(page, charge, "10")
    lost(page, lambda send: send())
    refund = dialog.get_by_role("button", name="Refund $10.00")
    refund.click()
    expect(dialog.get_by_role("alert")).to_contain_text("Whether it had an effect is not known")
    # As it is while another process still waits for Stripe.
    operation = AdminOperation.objects(kind="refund")
    until = database_now() + timedelta(minutes=1)
    operation.update_one(set__state="started", set__stored=False, set__lease_until=until)
    refund.click()
    expect(dialog.get_by_role("alert")).to_contain_text("idempotency_in_progress")
    expect(dialog.get_by_label(re.compile("Amount"))).to_be_disabled()
    expect(dialog.get_by_role("button", name="Preview")).to_be_hidden()
    operation.update_one(set__state="done", set__stored=True)
    refund.click()
    expect(dialog).to_contain_text(f"Done: $10.00 of {charge.id}")
    assert [each.amount for each in stripe.refunds.list({"charge": charge.id}).data] == [1_000]
    assert (len(asked_for(sandbox)), operation.count()) == (1, 1)


def test_who_closes_it_without_an_answer_sees_what_came_of_it(page, admin, linked, charge, stripe):
    open_as(page, admin, linked)
    dialog = foretell(page, charge, "10")
    lost(page, lambda send: send())
    dialog.get_by_role("button", name="Refund $10.00").click()
    expect(dialog.get_by_role("alert")).to_contain_text("Whether it had an effect is not known")
    dialog.get_by_role("button", name="Close").click()
    expect(page.locator(f'[data-charge="{charge.id}"]')).to_contain_text("$10.00 refunded, $69.00 left")
    expect(page.locator("#said")).to_contain_text("Whether it took effect is not known")


def test_what_is_cancelled_is_what_was_previewed(page, admin, linked, stripe):
    """Another subscription took its place while the dialog was open: that one stays."""
    open_as(page, admin, linked)
    page.locator("#act-cancel").click()
    dialog = page.locator("#action-dialog")
    cancel = dialog.get_by_role("button", name=f"Cancel {linked.subscription.id}")
    expect(cancel).to_be_enabled()
    stripe.subscriptions.cancel(linked.subscription.id)
    price = linked.subscription["items"]["data"][0]["price"]["id"]
    other = stripe.subscriptions.create({"customer": linked.subscription.customer, "items": [{"price": price}]})
    dialog.get_by_label("Note").fill("They asked for it.")
    cancel.click()
    expect(dialog.locator(".done, .trouble")).to_contain_text(linked.subscription.id)
    assert stripe.subscriptions.retrieve(other.id).status == "active"


def test_going_back_leaves_it(page, admin, linked):
    open_as(page, admin, linked)
    page.get_by_role("link", name="Events", exact=True).click()
    expect(page.get_by_role("heading", name="Events", level=1)).to_be_visible()
    page.go_back()
    page.locator("#act-sync").click()
    dialog = page.locator("#action-dialog")
    expect(dialog.get_by_role("button", name="Sync", exact=True)).to_be_enabled()
    page.go_forward()
    expect(page.get_by_role("heading", name="Events", level=1)).to_be_visible()
    expect(dialog).to_be_hidden()


def test_it_cannot_be_closed_while_it_works(page, admin, linked, charge, sandbox):
    open_as(page, admin, linked)
    dialog = foretell(page, charge, "10")
    sandbox.arm("delay", seconds=0.8, **REFUND)
    dialog.get_by_role("button", name="Refund $10.00").click()
    expect(dialog).to_contain_text("Working …")
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    expect(dialog).to_contain_text(f"Done: $10.00 of {charge.id}")


def test_more_than_a_role_may_refund_is_said_before_and_refused(page, token, linked, charge):
    open_as(page, token("billing-ops"), linked)
    page.locator(f"#refund-{charge.id}").click()
    dialog = page.locator("#action-dialog")
    expect(dialog).to_contain_text("Your role may refund up to $50.00 of a charge.")
    expect(dialog.get_by_role("alert")).to_be_visible()


def test_a_plan_is_set_by_hand_until_a_day_and_lifted(page, admin, linked):
    open_as(page, admin, linked)
    page.locator("#act-bump").click()
    dialog = page.locator("#action-dialog")
    dialog.get_by_label("Plan").select_option("business")
    dialog.get_by_label("Until").fill("2030-01-01T12:00")
    dialog.get_by_label("Note").fill("Until they have moved.")
    dialog.get_by_role("button", name="Preview").click()
    expect(dialog).to_contain_text("This will change plan pro to business")
    assert linked.plan == "pro"
    dialog.get_by_role("button", name="Set the plan business").click()
    expect(dialog).to_contain_text("Done")
    dialog.get_by_role("button", name="Close").click()
    expect(page.get_by_role("heading", name="The plan is set by hand")).to_be_visible()
    assert (linked.plan, linked.row.override.note) == ("business", "Until they have moved.")
    assert linked.row.override.until.year == 2030

    page.locator("#act-lift").click()
    expect(dialog).to_contain_text("This will change plan business to pro")
    dialog.get_by_label("Note").fill("They have.")
    dialog.get_by_role("button", name="Lift it").click()
    expect(dialog).to_contain_text("Done")
    dialog.get_by_role("button", name="Close").click()
    expect(page.get_by_role("heading", name="In sync")).to_be_visible()
    expect(page.locator("#act-lift")).to_have_count(0)
    assert (linked.plan, linked.row.override) == ("pro", None)


# As Stripe's documentation of currencies has it: some differ from what browsers know.
AMOUNTS = [
    ("25", "usd", 2_500, "25.00", "$25.00"),
    ("25.5", "usd", 2_550, "25.50", "$25.50"),
    ("0.07", "eur", 7, "0.07", "€0.07"),
    ("1.15", "eur", 115, "1.15", "€1.15"),
    ("9999999999.99", "usd", 999_999_999_999, "9999999999.99", "$9,999,999,999.99"),
    ("500", "jpy", 500, "500", "¥500"),
    ("5", "isk", 500, "5.00", "ISK 5.00"),
    ("5.124", "kwd", 5_124, "5.124", "KWD 5.124"),
    ("500", "mga", 500, "500", "MGA 500"),
    ("5", "ugx", 500, "5.00", "UGX 5.00"),
]


def test_amounts_are_moved_by_digits_and_never_rounded(page, web):
    page.goto("/console")
    for typed, currency, minor, major, words in AMOUNTS:
        found = page.evaluate(
            """async ([typed, currency, minor]) => {
              const { inMinor, inMajor, money } = await import("/console/words.js");
              return [inMinor(typed, currency), inMajor(minor, currency), money(minor, currency)];
            }""",
            [typed, currency, minor],
        )
        assert [found[0], found[1], found[2].replace("\xa0", " ")] == [minor, major, words], currency


def test_what_is_no_amount_is_not_sent(page, admin, linked, charge):
    open_as(page, admin, linked)
    page.locator(f"#refund-{charge.id}").click()
    dialog = page.locator("#action-dialog")
    amount = dialog.get_by_label(re.compile("Amount"))
    for typed in ("", "ten", "-5", "1e3", "1.234", "1,5"):
        amount.fill(typed)
        dialog.get_by_role("button", name="Preview").click()
        assert amount.evaluate("input => input.checkValidity()") is False, typed
        expect(dialog.locator(".foretold")).to_have_count(0)


def test_what_is_typed_while_a_preview_is_asked_for_is_what_counts(page, admin, linked, charge):
    held = []
    page.route(re.compile(r"/api/admin/billing/refund\?dryRun"), lambda route: held.append(route))
    open_as(page, admin, linked)
    page.locator(f"#refund-{charge.id}").click()
    dialog = page.locator("#action-dialog")
    expect(dialog.locator("form")).to_have_attribute("aria-busy", "true")
    dialog.get_by_label(re.compile("Amount")).fill("1.23")
    held.pop().continue_()
    expect(dialog.locator("form")).not_to_have_attribute("aria-busy", "true")
    expect(dialog.locator(".foretold")).to_have_count(0)
    expect(dialog.get_by_role("button", name=re.compile("^Refund"))).to_be_disabled()
