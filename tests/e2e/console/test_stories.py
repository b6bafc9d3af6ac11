"""Stories of an admin, from signing in to what is then in MongoDB and at Stripe; all sizes with BILLING_TESTS=long."""

import pytest
from playwright.sync_api import expect

from .conftest import LONG, SIZES, find, sign_in

EVERYWHERE = list(SIZES)
HERE = EVERYWHERE if LONG else EVERYWHERE[:1]
only_long = pytest.mark.skipif(not LONG, reason="another story of the same dialogs: BILLING_TESTS=long")


@pytest.fixture
def story(tab, person, request):
    """A signed-in tab of the size that the test is about."""
    person()
    page = tab(request.param)
    page.goto("/console")
    sign_in(page)
    expect(page.get_by_role("heading", name="Overview", level=1)).to_be_visible()
    return page


def sized(*sizes):
    return pytest.mark.parametrize("story", sizes, indirect=True)


def written(sandbox):
    """What was asked of Stripe to change, as it received it."""
    return [each for each in sandbox.requests(limit=500)["items"] if each["method"] != "GET"]


@sized(*HERE)
def test_who_paid_and_is_free_is_found_understood_and_synced(story, customer, sandbox):
    from billing_service.documents import Subscription

    it = customer(email="ines@fjord.example")
    Subscription(organization=it.id, stripe_customer_id=it.subscription.customer, plan="free", version=1).save()
    sandbox.clear_requests()

    find(story, "ines@fjord.example")
    expect(story.get_by_role("heading", name="Fjord Cartography", level=1)).to_be_visible()
    expect(story.locator(".verdict")).to_contain_text("paid but not granted")
    story.get_by_role("button", name="Sync from Stripe").click()
    dialog = story.locator("#action-dialog")
    expect(dialog).to_contain_text("This will change plan free to pro")
    assert (it.plan, it.row.stripe_subscription_id) == ("free", None)
    dialog.get_by_label("Note").fill("They say they paid, and they did.")
    dialog.get_by_role("button", name="Sync", exact=True).click()
    expect(dialog).to_contain_text("Done: changed plan free to pro")
    dialog.get_by_role("button", name="Close").click()
    expect(story.get_by_role("heading", name="In sync")).to_be_visible()
    expect(story.locator("#act-sync")).to_be_focused()

    assert (it.plan, it.row.plan, it.row.status) == ("pro", "pro", "active")
    assert it.row.stripe_subscription_id == it.subscription.id
    assert [(each.actor, each.action, each.outcome, each.note) for each in it.actions] == [
        ("grace@example.com", "sync", outcome, "They say they paid, and they did.")
        for outcome in ("succeeded", "pending")
    ]
    assert written(sandbox) == []


@only_long
@sized(*EVERYWHERE)
def test_who_paid_and_is_unknown_here_is_linked(story, customer, sandbox):
    it = customer(email="ines@fjord.example")
    find(story, "ines@fjord.example")
    expect(story.locator("main")).to_contain_text("At Stripe, and of no organization here")
    expect(story.locator("main")).to_contain_text(it.subscription.customer)
    find(story, "Fjord")
    expect(story.get_by_role("heading", name="Not billed")).to_be_visible()
    expect(story.locator("#act-sync")).to_be_disabled()
    story.get_by_role("button", name="Link a subscription").click()
    dialog = story.locator("#action-dialog")
    dialog.get_by_label("Subscription id at Stripe").fill(it.subscription.id)
    dialog.get_by_role("button", name="Preview").click()
    expect(dialog).to_contain_text("This will change plan none to pro")
    assert it.row is None
    dialog.get_by_role("button", name=f"Link {it.subscription.id}").click()
    expect(dialog).to_contain_text("Done")
    story.keyboard.press("Escape")
    expect(story.get_by_role("heading", name="In sync")).to_be_visible()
    assert (it.plan, it.row.stripe_subscription_id) == ("pro", it.subscription.id)


@only_long
@sized(*EVERYWHERE)
def test_a_subscription_is_cancelled_after_a_dry_run(story, customer, stripe, sandbox):
    it = customer().link()
    sandbox.clear_requests()
    find(story, it.subscription.id)
    story.locator("#act-cancel").click()
    dialog = story.locator("#action-dialog")
    expect(dialog).to_contain_text("This will change plan pro to free")
    expect(dialog).to_contain_text("The unused time is not credited.")
    dialog.get_by_label("At the end of the period").check()
    expect(dialog.get_by_label("Credit the unused time")).to_be_disabled()
    confirm = dialog.get_by_role("button", name="Cancel ")
    expect(confirm).to_be_disabled()
    dialog.get_by_role("button", name="Preview").click()
    expect(dialog).to_contain_text("will end with its period")
    dialog.get_by_label("At once").check()
    expect(confirm).to_be_disabled()
    dialog.get_by_role("button", name="Preview").click()
    expect(dialog).to_contain_text("will be cancelled at once")
    assert written(sandbox) == []
    assert stripe.subscriptions.retrieve(it.subscription.id).status == "active"
    dialog.get_by_role("button", name=f"Cancel {it.subscription.id}").click()
    expect(dialog).to_contain_text(f"At Stripe {it.subscription.id} is canceled")
    assert stripe.subscriptions.retrieve(it.subscription.id).status == "canceled"
    assert (it.row.status, it.row.plan, it.plan) == ("canceled", "free", "free")
    [sent] = written(sandbox)
    assert (sent["method"], sent["path"]) == ("DELETE", f"/v1/subscriptions/{it.subscription.id}")


def refund(story, charge, amount):
    story.locator(f"#refund-{charge.id}").click()
    dialog = story.locator("#action-dialog")
    dialog.get_by_label("Amount (USD)").fill(amount)
    dialog.get_by_role("button", name="Preview").click()
    return dialog


@sized(*HERE)
def test_a_payment_is_refunded_in_two_parts_and_a_third_is_refused(story, customer, stripe, sandbox):
    from billing_service.documents import RefundRequest

    it = customer().link()
    [charge] = stripe.charges.list({"customer": it.subscription.customer}).data
    sandbox.clear_requests()
    find(story, charge.id)
    line = story.locator(f'[data-charge="{charge.id}"]')
    for amount, left in (("25", "$54.00"), ("25.00", "$29.00")):
        dialog = refund(story, charge, amount)
        expect(dialog).to_contain_text(f"This will refund $25.00 of {charge.id}; {left} will be left.")
        dialog.get_by_label("Note").fill("Ticket 77: a month too much.")
        dialog.get_by_role("button", name="Refund $25.00", exact=True).click()
        expect(dialog).to_contain_text(f"Done: $25.00 of {charge.id}")
        dialog.get_by_role("button", name="Close").click()
        expect(line).to_contain_text(f"{left} left")
    dialog = refund(story, charge, "30")
    expect(dialog.get_by_role("alert")).to_contain_text("3000 is more than the 2900")
    expect(dialog.get_by_role("button", name="Refund", exact=False).last).to_be_disabled()
    dialog.get_by_role("button", name="Close").click()

    made = stripe.refunds.list({"charge": charge.id}).data
    assert [each.amount for each in made] == [2_500, 2_500]
    assert stripe.charges.retrieve(charge.id).amount_refunded == 5_000
    asked = list(RefundRequest.objects(charge=charge.id))
    assert {each.stripe_refund_id for each in asked} == {each.id for each in made}
    assert {(each.actor, each.note, each.reason) for each in asked} == {
        ("grace@example.com", "Ticket 77: a month too much.", "requested_by_customer")
    }
    sent = [each for each in written(sandbox) if each["path"] == "/v1/refunds"]
    assert {each["idempotency_key"] for each in sent} == {f"refund_admin_{each.refund_request_id}" for each in asked}
    assert len(sent) == 2


@only_long
@sized(*EVERYWHERE)
def test_of_two_subscriptions_the_wrong_one_is_cancelled(story, customer, stripe, price):
    it = customer().link()
    wrong = stripe.subscriptions.create({"customer": it.subscription.customer, "items": [{"price": price("starter")}]})
    find(story, "fjord")
    expect(story.get_by_role("heading", name="Billed more than once")).to_be_visible()
    expect(story.locator(".verdict")).to_contain_text(wrong.id)
    story.locator("#act-cancel").click()
    dialog = story.locator("#action-dialog")
    dialog.get_by_label("Which one?").select_option(wrong.id)
    dialog.get_by_role("button", name="Preview").click()
    expect(dialog).to_contain_text(f"{wrong.id} will be cancelled at once")
    expect(dialog).to_contain_text("Nothing would change in our row.")
    dialog.get_by_role("button", name=f"Cancel {wrong.id}").click()
    expect(dialog).to_contain_text(f"At Stripe {wrong.id} is canceled")
    story.keyboard.press("Escape")
    expect(story.get_by_role("heading", name="In sync")).to_be_visible()
    assert stripe.subscriptions.retrieve(wrong.id).status == "canceled"
    assert stripe.subscriptions.retrieve(it.subscription.id).status == "active"
    assert (it.row.stripe_subscription_id, it.plan) == (it.subscription.id, "pro")
