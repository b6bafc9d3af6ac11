"""Reconciliations and findings in the console: run, followed, looked into, repaired, acknowledged, downloaded."""

import csv
import re
import time
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import expect

from .conftest import LONG, SIZES

only_long = pytest.mark.skipif(not LONG, reason="a story that crosses many views: BILLING_TESTS=long")


def findings(**wanted):
    from billing_service.documents import Finding

    return list(Finding.objects(**wanted))


@pytest.fixture
def sunday(runtime):
    """Carries out the calendar's run to its end, as its worker would; returns its id."""
    from billing_service import reconciliation

    def run():
        slot = datetime(2026, 11, 22, 3, tzinfo=UTC)
        begun = reconciliation.start("schedule", runtime.clock(), slot=slot.isoformat())
        desk = reconciliation.Desk(runtime.stripe, runtime.plans, runtime.clock, timedelta(0))
        while not reconciliation.go_on(desk, lambda: False).over:
            pass
        return str(begun.pk)

    return run


@pytest.fixture
def paying(customer, stripe):
    """An organization that knows its subscription, which both name."""

    def make(name="Fjord Cartography"):
        it = customer(name)
        stripe.subscriptions.update(it.subscription.id, {"metadata": {"organizationId": it.id}})
        return it.link()

    return make


@pytest.fixture
def drifted(paying, stripe, sandbox):
    """One that was cancelled at Stripe and still has Pro, beside one that fits."""
    paying("Harborlight Hotels")
    it = paying()
    stripe.subscriptions.cancel(it.subscription.id)
    sandbox.clear_requests()
    return it


@only_long
@pytest.mark.parametrize("size", list(SIZES))
def test_a_divergence_of_the_sunday_run_is_followed_to_its_repair(signed_in, drifted, sunday, sandbox, size):
    run_id = sunday()
    [finding] = findings()
    page = signed_in(size=size)
    page.get_by_role("link", name="Reconciliation", exact=True).click()
    runs = page.get_by_role("table", name="Reconciliations")
    expect(runs).to_contain_text("The calendar")
    expect(runs).to_contain_text("1 divergence")
    runs.get_by_role("link").first.click()
    expect(page).to_have_url(re.compile(run_id))
    expect(page.get_by_role("table", name="Findings by kind")).to_contain_text("The status differs")
    page.get_by_role("table", name="Findings of the run").get_by_role("link", name="The status differs").click()
    expect(page.get_by_role("heading", name="The status differs", level=1)).to_be_focused()
    expect(page.locator(".verdict")).to_contain_text("Sync the customer: the row is brought to what Stripe shows.")
    sides = page.get_by_role("table", name="What differed when it was seen last")
    expect(sides).to_contain_text("active")
    expect(sides).to_contain_text("canceled")
    page.get_by_role("link", name="Sync the customer").click()

    expect(page.get_by_role("heading", name="Stripe and our row differ")).to_be_visible()
    assert (drifted.plan, drifted.row.status) == ("pro", "active")
    page.locator("#act-sync").click()
    dialog = page.locator("#action-dialog")
    expect(dialog).to_contain_text("This will change plan pro to free and status active to canceled")
    dialog.get_by_label("Note").fill("Found on Sunday.")
    dialog.get_by_role("button", name="Sync", exact=True).click()
    expect(dialog).to_contain_text("Done: changed plan pro to free")
    dialog.get_by_role("button", name="Close").click()
    assert (drifted.plan, drifted.row.status, drifted.row.plan) == ("free", "canceled", "free")
    finding.reload()
    assert (finding.state, finding.resolved_by) == ("resolved", "sync")
    assert [each for each in sandbox.requests(limit=500)["items"] if each["method"] != "GET"] == []

    page.goto(f"/console#/findings/{finding.pk}")
    expect(page.locator(".verdict")).to_contain_text("Resolved by sync")
    assert page.locator("#acknowledge").count() == 0
    sunday_again = findings(state="open")
    assert sunday_again == []


def test_a_run_that_is_started_here_is_followed_to_its_end(signed_in, drifted, worker):
    from billing_service.documents import ReconciliationRun
    from billing_service.jobs import wakeups

    page = signed_in("#/reconciliation")
    page.get_by_role("button", name="Run now").click()
    dialog = page.locator("#action-dialog")
    expect(dialog).to_contain_text("2 subscriptions will be compared")
    assert ReconciliationRun.objects.first() is None
    dialog.get_by_role("button", name="Run it now").click()
    expect(page.get_by_role("heading", name="Progress")).to_be_visible()
    expect(page.locator("main")).to_contain_text("What differs is looked at once more")
    deadline = time.monotonic() + 60
    # No scheduler runs here, whose sweep would do it.
    while ReconciliationRun.objects.get().state == "running":
        assert time.monotonic() < deadline
        wakeups.wake_reconciliation()
        page.wait_for_timeout(500)
    expect(page.get_by_role("heading", name="Result")).to_be_visible()
    expect(page.get_by_role("table", name="Findings of the run").locator("tbody tr")).to_have_count(1)
    run = ReconciliationRun.objects.get()
    assert (run.state, run.trigger, run.actor) == ("completed", "api", "grace-admin@example.com")
    assert run.findings == {"status": 1}


def test_a_run_is_started_and_its_progress_shown(signed_in, drifted):
    from billing_service.documents import AdminAction, ReconciliationRun

    page = signed_in("#/reconciliation")
    expect(page.locator("main")).to_contain_text("Nothing has been compared yet.")
    page.get_by_role("button", name="Run now").click()
    dialog = page.locator("#action-dialog")
    expect(dialog).to_contain_text("2 subscriptions will be compared")
    assert ReconciliationRun.objects.first() is None
    dialog.get_by_label("Note").fill("A customer complained.")
    dialog.get_by_role("button", name="Run it now").click()
    expect(page.get_by_role("heading", name="Progress")).to_be_visible()
    run = ReconciliationRun.objects.get()
    assert (run.state, run.trigger, run.actor) == ("running", "api", "grace-admin@example.com")
    assert {each.note for each in AdminAction.objects(action="reconcile")} == {"A customer complained."}
    ReconciliationRun.objects(id=run.pk).update_one(set__phase="listing", set__checked=1, set__expected=2)
    expect(page.locator(".progress")).to_contain_text("1 of about 2 compared")
    ended = {"set__state": "failed", "set__error": "stripe_misconfigured", "unset__active": True}
    ReconciliationRun.objects(id=run.pk).update_one(set__finished_at=datetime.now(UTC), **ended)
    expect(page.locator(".trouble")).to_contain_text("Check STRIPE_SECRET_KEY before anything else")
    page.get_by_role("link", name="All reconciliations").click()
    expect(page.get_by_role("table", name="Reconciliations")).to_contain_text("Failed")


def test_a_finding_is_acknowledged_until_a_time(signed_in, drifted, sunday):
    sunday()
    [finding] = findings()
    page = signed_in("#/findings")
    page.get_by_role("link", name="The status differs").click()
    page.get_by_role("button", name="Acknowledge until …").click()
    dialog = page.locator("#action-dialog")
    until = (datetime.now(UTC) + timedelta(days=30)).replace(second=0, microsecond=0)
    dialog.get_by_label("Until").fill("2001-01-01T00:00")
    dialog.get_by_role("button", name="Preview").click()
    expect(dialog.get_by_role("alert")).to_contain_text("must lie ahead")
    expect(dialog.get_by_role("button", name="Acknowledge", exact=True)).to_be_disabled()
    dialog.get_by_label("Until").fill(until.strftime("%Y-%m-%dT%H:%M"))
    dialog.get_by_role("button", name="Preview").click()
    expect(dialog).to_contain_text("It will be quiet until")
    finding.reload()
    assert finding.state == "open"
    dialog.get_by_label("Note").fill("Finance knows.")
    dialog.get_by_role("button", name="Acknowledge", exact=True).click()
    expect(dialog).to_contain_text("Acknowledged until")
    dialog.get_by_role("button", name="Close").click()
    expect(page.locator("main")).to_contain_text("Finance knows.")
    finding.reload()
    assert (finding.state, finding.acknowledged_until, finding.acknowledged_by, finding.acknowledged_note) == (
        "acknowledged",
        until,
        "grace-admin@example.com",
        "Finance knows.",
    )
    page.get_by_role("link", name="Findings", exact=True).click()
    expect(page.locator("main")).to_contain_text("Nothing is open: what was compared fits.")
    page.get_by_role("link", name="Acknowledged").click()
    expect(page.get_by_role("table", name="Findings").locator("tbody tr")).to_have_count(1)


def test_findings_are_filtered_and_downloaded_as_filtered(signed_in, drifted, sunday, paying, stripe):
    other = paying("Granite Peak")
    wrong = {"set__plan": "business"}
    from billing_service.documents import Organization

    Organization.objects(id=other.id).update_one(**wrong)
    sunday()
    page = signed_in("#/findings", accept_downloads=True)
    rows = page.get_by_role("table", name="Findings").locator("tbody tr")
    expect(rows).to_have_count(2)
    page.get_by_label("Kind").select_option("org_plan")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text(other.id)
    with page.expect_download() as caught:
        page.get_by_role("button", name="Download CSV").click()
    assert re.fullmatch(r"findings-\d{8}T\d{6}Z\.csv", caught.value.suggested_filename)
    with open(caught.value.path()) as file:
        assert [(row["kind"], row["orgId"], row["state"]) for row in csv.DictReader(file)] == [
            ("org_plan", other.id, "open")
        ]
    page.get_by_role("button", name=re.compile("^First seen")).click()
    assert "sort=" in page.url
    assert "kind=org_plan" in page.url


def test_who_may_only_read_is_offered_no_run_and_no_acknowledgement(signed_in, drifted, sunday):
    sunday()
    [finding] = findings()
    page = signed_in("#/reconciliation", roles=("auditor",))
    expect(page.get_by_role("table", name="Reconciliations")).to_be_visible()
    assert page.get_by_role("button", name="Run now").count() == 0
    page.goto(f"/console#/findings/{finding.pk}")
    expect(page.locator(".verdict")).to_be_visible()
    assert page.locator("#acknowledge").count() == 0
