"""Refunds and the audit log in the console: what is left, what nobody knows, who did what."""

import csv
import re
from datetime import timedelta

import pytest
import requests
from playwright.sync_api import expect

from .conftest import ADMIN

HOSTILE = '<script>window.harmed = 1</script><img src="x" onerror="window.harmed = 1">'


@pytest.fixture
def paid(customer, stripe):
    """A customer who paid, and the charge."""
    it = customer().link()
    [charge] = stripe.charges.list({"customer": it.subscription.customer}).data
    return it, charge


@pytest.fixture
def refund(web, admin, paid):
    def ask(number, **more):
        body = {"chargeId": paid[1].id, "amountCents": 1_500, "refundRequestId": f"ticket-{number:04}"} | more
        return requests.post(f"{web}{ADMIN}/refund", json=body, headers=admin, timeout=30)

    return ask


@pytest.fixture
def disputed(paid, runtime, sandbox):
    """A pack was bought with the charge, the bank took its money back, and that was booked; returns the dispute."""
    from billing_service import extras

    it, charge = paid
    now = runtime.clock()
    pack = {"organization": it.row.organization, "at": now, "charge": charge.id}
    pack |= {"payment_intent": charge.payment_intent, "currency": "usd", "amount": charge.amount}
    extras.book(pack | {"kind": "topup", "units": 100_000, "ref": "topup:cs_1", "expires_at": now + timedelta(days=90)})
    dispute = sandbox.dispute(charge.id)["id"]
    extras.book(pack | {"kind": "debit", "units": -100_000, "ref": f"dispute:{dispute}"})
    return dispute


def test_a_won_dispute_is_credited_after_a_dry_run_and_once(signed_in, paid, disputed, sandbox):
    from billing_service.documents import ExtraBalance, LedgerEntry

    it, charge = paid
    page = signed_in(f"#/customer/{it.id}")
    line = page.locator(f'[data-charge="{charge.id}"]')
    expect(line).to_contain_text("Needs response")
    expect(page.locator(f"#credit-{charge.id}")).to_have_count(0)
    sandbox.close_dispute(disputed, "won")
    sandbox.clear_requests()
    page.reload()
    page.locator(f"#credit-{charge.id}").click()
    dialog = page.locator("#action-dialog")
    expect(dialog).to_contain_text(f"This will change the extras from 0 to 100,000 units for {disputed}.")
    dialog.get_by_label("Amount (USD)").fill("79.01")
    dialog.get_by_role("button", name="Preview").click()
    expect(dialog.get_by_role("alert")).to_contain_text("7901 is more than the 7900 that the dispute withdrew")
    confirm = dialog.get_by_role("button", name="Credit the dispute")
    expect(confirm).to_be_disabled()
    dialog.get_by_label("Amount (USD)").fill("39.50")
    dialog.get_by_role("button", name="Preview").click()
    expect(dialog).to_contain_text("from 0 to 50,000 units")
    dialog.get_by_label("Note").fill("The bank sided with us.")
    credits = LedgerEntry.objects(ref=f"dispute_credit:{disputed}")
    assert (credits.count(), ExtraBalance.objects(organization=it.id).first().units) == (0, 0)
    confirm.click()
    expect(dialog).to_contain_text("Done: changed the extras from 0 to 50,000 units")
    dialog.get_by_role("button", name="Close").click()
    expect(page.locator(".timeline")).to_contain_text("Given back: 50,000 units of extras")

    page.locator(f"#credit-{charge.id}").click()
    expect(dialog).to_contain_text("It was credited before: nothing is left to do.")
    expect(confirm).to_be_disabled()
    [entry] = credits
    assert (entry.units, entry.amount, entry.charge) == (50_000, 3_950, charge.id)
    assert (entry.actor, entry.memo) == ("grace-admin@example.com", "The bank sided with us.")
    assert ExtraBalance.objects(organization=it.id).first().units == 50_000
    assert [(each.action, each.outcome) for each in it.actions if each.action == "dispute_credit"] == [
        ("dispute_credit", "succeeded"),
        ("dispute_credit", "pending"),
    ]
    assert [each["method"] for each in sandbox.requests(limit=500)["items"] if each["method"] != "GET"] == []


def test_no_refund_is_begun_while_it_is_not_known_whether_one_is_open(signed_in, paid):
    it, charge = paid
    page = signed_in(f"#/customer/{it.id}")
    button = page.locator(f"#refund-{charge.id}")
    expect(button).to_be_visible()
    asked = re.compile(r"/refunds\?chargeId")
    page.route(asked, lambda route: route.abort())
    button.click()
    expect(page.locator(".charge").get_by_role("alert")).to_contain_text("The service cannot be reached")
    expect(page.locator("#action-dialog")).to_be_hidden()
    page.unroute(asked)
    button.click()
    expect(page.locator("#action-dialog")).to_contain_text("This will refund $79.00")
    expect(page.locator(".charge").get_by_role("alert")).to_have_count(0)
    page.keyboard.press("Escape")
    expect(button).to_be_focused()


def stored(number):
    from billing_service.documents import RefundRequest

    return RefundRequest.objects(refund_request_id=f"ticket-{number:04}").get()


def test_a_refund_nobody_knows_of_stands_first_and_is_repeated_with_its_id(signed_in, paid, refund, stripe, sandbox):
    from billing_service.documents import RefundRequest

    _, charge = paid
    assert refund(1, note="the first").status_code == 200
    # Made at Stripe, and its answer is lost however often it is asked for.
    sandbox.arm("drop_after", method="POST", path="/v1/refunds$", times=3)
    sandbox.arm("error", method="GET", path="/v1/refunds", times=None, status=500)
    assert refund(2, reason="duplicate").json()["state"] == "unknown"
    sandbox.disarm()
    RefundRequest.objects(refund_request_id="ticket-0002").update_one(set__lease_until=stored(2).created_at)
    page = signed_in("#/refunds")
    first = page.locator(".verdict")
    expect(first).to_contain_text("Nobody knows yet of one refund")
    expect(first).to_contain_text("Repeat this id, take no new one.")
    expect(first.get_by_role("row").last).to_contain_text("ticket-0002")
    sandbox.clear_requests()
    page.get_by_role("button", name="Repeat ticket-0002").click()
    dialog = page.locator("#action-dialog")
    expect(dialog).to_contain_text("Stripe will be asked again for the refund ticket-0002.")
    assert stored(2).state == "unknown"
    dialog.get_by_role("button", name="Repeat ticket-0002").click()
    expect(dialog).to_contain_text("It is known now: succeeded.")
    dialog.get_by_role("button", name="Close").click()
    expect(first).to_have_count(0)
    made = stripe.refunds.list({"charge": charge.id}).data
    assert [each.amount for each in made] == [1_500, 1_500]
    assert (stored(2).state, stored(2).stripe_refund_id) == ("succeeded", made[0].id)
    sent = [each for each in sandbox.requests(limit=100)["items"] if each["method"] == "POST"]
    assert {each["idempotency_key"] for each in sent} == {"refund_admin_ticket-0002"}


def test_what_is_left_of_each_charge_of_an_organization(signed_in, paid, refund):
    it, charge = paid
    assert refund(1).status_code == 200
    page = signed_in("#/refunds")
    page.get_by_label("Organization id").fill("nobody")
    page.get_by_role("button", name="Show", exact=True).click()
    assert "orgId" not in page.url
    page.get_by_label("Organization id").fill(f" {it.id} ")
    page.get_by_role("button", name="Show", exact=True).click()
    charges = page.get_by_role("table", name="Charges")
    expect(charges).to_contain_text(charge.id)
    expect(charges).to_contain_text("$64.00")
    expect(charges).to_contain_text("$15.00 refunded")
    assert f"orgId={it.id}" in page.url
    expect(page.get_by_role("table", name="Refunds asked for").locator("tbody tr")).to_have_count(1)
    link = charges.get_by_role("link", name=charge.id)
    assert link.get_attribute("href") == f"https://dashboard.stripe.com/test/payments/{charge.id}"
    page.get_by_role("link", name="Show the customer").click()
    expect(page).to_have_url(re.compile(f"#/customer/{it.id}"))


def test_refunds_are_filtered_sorted_and_downloaded(signed_in, paid, refund):
    for number, amount in ((1, 900), (2, 2_000), (3, 1_000)):
        assert refund(number, amountCents=amount, note="=1+1").status_code == 200
    page = signed_in("#/refunds", accept_downloads=True)
    rows = page.get_by_role("table", name="Refunds asked for").locator("tbody tr")
    expect(rows).to_have_count(3)
    page.get_by_role("button", name="Amount").click()
    expect(rows.first).to_contain_text("$9.00")
    page.get_by_role("button", name="Amount").click()
    expect(rows.first).to_contain_text("$20.00")
    page.get_by_label("Refund request id").fill("ticket-0003")
    page.get_by_role("button", name="Filter").click()
    expect(rows).to_have_count(1)
    with page.expect_download() as caught:
        page.get_by_role("button", name="Download CSV").click()
    with open(caught.value.path()) as file:
        assert [(row["refundRequestId"], row["note"]) for row in csv.DictReader(file)] == [("ticket-0003", "'=1+1")]


def test_who_may_not_refund_is_not_offered_a_repeat(signed_in, paid, refund, sandbox):
    sandbox.arm("drop_after", method="POST", path="/v1/refunds$", times=3)
    sandbox.arm("error", method="GET", path="/v1/refunds", times=None, status=500)
    assert refund(1).json()["state"] == "unknown"
    page = signed_in("#/refunds", roles=("auditor",))
    expect(page.locator(".verdict")).to_contain_text("take no new one")
    assert page.get_by_role("button", name="Repeat").count() == 0


def test_a_download_that_fails_says_why(signed_in, paid, tab):
    page = signed_in("#/refunds?chargeId=nothing")
    expect(page.locator(".trouble")).to_have_count(1)
    page.get_by_role("button", name="Download CSV").click()
    expect(page.locator(".trouble")).to_have_count(2)
    expect(page.locator(".beside .trouble")).to_contain_text(re.compile("request id [0-9a-f-]{8,}"))


def test_the_audit_log_says_who_did_what_and_what_changed(signed_in, upgraded, web, admin):
    note = HOSTILE
    body = {"note": note}
    requests.post(f"{web}{ADMIN}/sync/{upgraded.id}", json=body, headers=admin, timeout=10).raise_for_status()
    page = signed_in("#/audit", accept_downloads=True)
    rows = page.get_by_role("table", name="Audit log").locator("tbody tr")
    expect(rows).to_have_count(4)
    page.get_by_label("Action").select_option("sync")
    expect(rows).to_have_count(2)
    page.get_by_label("Outcome").select_option("succeeded")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("ada@example.com")
    expect(rows).to_contain_text(HOSTILE)
    rows.get_by_text("Details").click()
    expect(rows.locator(".changes")).to_contain_text("business")
    [request_id] = {each.request_id for each in upgraded.actions if each.action == "sync"}
    expect(rows).to_contain_text(request_id)
    with page.expect_download() as caught:
        page.get_by_role("button", name="Download CSV").click()
    with open(caught.value.path()) as file:
        assert [(row["action"], row["outcome"]) for row in csv.DictReader(file)] == [("sync", "succeeded")]
    rows.get_by_role("link", name="Fjord Cartography").click()
    expect(page).to_have_url(re.compile(f"#/customer/{upgraded.id}"))
    assert page.evaluate("window.harmed") is None


def test_pages_are_turned_by_cursor_and_kept_in_the_address(signed_in, app, runtime):
    from bson import ObjectId

    from billing_service.documents import AdminAction

    for number in range(45):
        row = {"operation": ObjectId(), "phase": "intent", "actor": f"actor-{number}", "action": "sync", "target": "x"}
        AdminAction(at=runtime.clock(), outcome="pending", request_id="r", **row).save()
    page = signed_in("#/audit")
    rows = page.get_by_role("table", name="Audit log").locator("tbody tr")
    expect(rows.first).to_contain_text("actor-44")
    page.get_by_role("link", name="Next").click()
    expect(rows.first).to_contain_text("actor-24")
    page.reload()
    expect(rows.first).to_contain_text("actor-24")
    page.get_by_role("link", name="Next").click()
    expect(rows).to_have_count(5)
    page.get_by_role("link", name="Previous").click()
    expect(rows.first).to_contain_text("actor-24")
    page.go_back()
    expect(rows).to_have_count(5)
