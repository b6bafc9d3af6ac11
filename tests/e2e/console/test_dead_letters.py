"""Dead letters in the console: looked at, replayed alone and in a group, closed; from signing in to MongoDB."""

import json
import os
import re
import signal
from urllib.parse import unquote

import pytest
from playwright.sync_api import expect

from .conftest import LONG, SIZES

HERE = list(SIZES) if LONG else ["desktop"]
FINGERPRINT = "ValueError: no plan for #"


@pytest.fixture
def letters(customer, stripe):
    """Makes customers who pay and have nothing, each with the dead letter that would repair it, the oldest first."""
    from billing_service.documents import Attempt, Subscription, WebhookEvent, database_now

    def make(count, **fields):
        made = []
        for _ in range(count):
            it = customer()
            row = Subscription(organization=it.id, stripe_customer_id=it.subscription.customer, plan="free", version=1)
            row.stripe_subscription_id = it.subscription.id
            row.save()
            live = stripe.events.list({"type": "customer.subscription.created", "limit": 1}).data[0]
            now = database_now()
            line = Attempt(at=now, source="webhook", actor="worker", milliseconds=12, code_version="1.4.2")
            line.error_class, line.error_message = "ValueError", "no plan for price_17"
            told = {"event_id": live.id, "type": live.type, "livemode": False, "source": "delivery", "state": "dead"}
            told |= {"created": now, "received_at": now, "dead_at": now, "attempts": 5, "history": [line]}
            told |= {"reason": "handler_failed", "fingerprint": FINGERPRINT, "organization": it.id}
            told |= {"stripe_subscription_id": it.subscription.id, "stripe_customer_id": it.subscription.customer}
            WebhookEvent(**told | {"payload": json.dumps(live.to_dict(), default=str)} | fields).save()
            made.append((it, live.id))
        return made

    return make


def event(event_id):
    from billing_service.documents import WebhookEvent

    return WebhookEvent.objects(event_id=event_id).get()


def actions(action):
    from billing_service.documents import AdminAction

    return [
        (each.actor, each.phase, each.outcome, each.note)
        for each in AdminAction.objects(action=action).order_by("at", "id")
    ]


def written(sandbox):
    return [each["path"] for each in sandbox.requests(limit=500)["items"] if each["method"] != "GET"]


@pytest.mark.parametrize("size", HERE)
def test_a_dead_letter_is_replayed_alone_and_then_the_rest_of_its_group(signed_in, letters, worker, sandbox, size):
    (first, event_id), *others = letters(4)
    sandbox.clear_requests()
    page = signed_in(size=size)
    page.get_by_role("link", name="Dead letters", exact=True).first.click()
    group = page.locator(".groups li")
    expect(group).to_contain_text(FINGERPRINT)
    expect(group.locator(".number")).to_have_text("4letters")

    page.get_by_role("table", name="Dead letters").get_by_role("row").filter(has_text=event_id).get_by_role(
        "link"
    ).first.click()
    expect(page.locator(".verdict")).to_contain_text("no plan for price_17")
    expect(page.get_by_label("Payload as JSON")).to_contain_text(first.subscription.id)
    page.get_by_role("button", name="Replay", exact=True).click()
    dialog = page.locator("#action-dialog")
    expect(dialog).to_contain_text("This will change plan free to pro")
    assert (event(event_id).state, first.plan) == ("dead", "free")
    dialog.get_by_label("Note").fill("The plan file was corrected.")
    dialog.get_by_role("button", name=f"Replay {event_id}").click()
    expect(dialog).to_contain_text("Done: applied.")
    dialog.get_by_role("button", name="Close").click()
    expect(page.get_by_role("heading", name="Applied")).to_be_visible()
    assert (event(event_id).state, event(event_id).outcome) == ("succeeded", "applied")
    assert (first.plan, first.row.plan, first.row.status) == ("pro", "pro", "active")
    assert [it.plan for it, _ in others] == ["free"] * 3
    note, actor = "The plan file was corrected.", "grace-admin@example.com"
    assert actions("replay") == [(actor, "intent", "pending", note), (actor, "outcome", "succeeded", note)]

    page.get_by_role("link", name="Dead letters", exact=True).first.click()
    page.get_by_role("button", name="Replay 3 of customer.subscription.created").click()
    expect(dialog).to_contain_text("3 events will be replayed.")
    confirm = dialog.get_by_role("button", name="Replay 3 events")
    expect(confirm).to_be_disabled()
    dialog.get_by_label("Type 3 to confirm").fill("4")
    expect(confirm).to_be_disabled()
    assert [event(each).state for _, each in others] == ["dead"] * 3
    dialog.get_by_label("Type 3 to confirm").fill("3")
    dialog.get_by_label("Note").fill("The rest of them.")
    confirm.click()
    expect(page.get_by_role("heading", name="Replay of 3 events")).to_be_visible()
    expect(page.locator(".progress")).to_contain_text("3 of 3 are at their end")
    expect(page.locator(".counts")).to_contain_text("3 succeeded")
    expect(page.get_by_role("table", name="Events of the replay").get_by_text("Succeeded", exact=True)).to_have_count(3)
    assert [(event(each).state, it.plan, it.row.status) for it, each in others] == [("succeeded", "pro", "active")] * 3
    assert {each[3] for each in actions("replay_batch")} == {"The rest of them."}
    assert written(sandbox) == []

    page.get_by_role("link", name="Dead letters", exact=True).first.click()
    expect(page.locator("main")).to_contain_text("Nothing is dead.")


def test_a_group_whose_first_fails_is_stopped_and_says_why(signed_in, letters, worker, sandbox):
    (first, event_id), (second, other) = letters(2)
    sandbox.remove(first.subscription.id)
    sandbox.remove(first.subscription.customer)
    page = signed_in("#/deadletters")
    page.get_by_role("button", name="Replay all", exact=True).click()
    dialog = page.locator("#action-dialog")
    dialog.get_by_label("Type 2 to confirm").fill("2")
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_contain_text("The first one failed, so no other was tried.")
    expect(page.locator(".counts")).to_contain_text("1 failed")
    assert (event(event_id).state, event(other).state, second.plan) == ("dead", "dead", "free")
    page.get_by_label("State").select_option("failed")
    expect(page.get_by_role("table", name="Events of the replay").locator("tbody tr")).to_have_count(1)
    assert "state=failed" in page.url


def test_a_replay_of_many_that_waits_can_be_cancelled(signed_in, letters):
    from billing_service.documents import ReplayBatch

    made = letters(3)
    page = signed_in("#/deadletters")
    page.get_by_role("button", name="Replay all", exact=True).click()
    dialog = page.locator("#action-dialog")
    dialog.get_by_label("Type 3 to confirm").fill("3")
    dialog.get_by_role("button", name="Replay 3 events").click()
    expect(page.locator("main")).to_contain_text("It waits for a worker.")
    # It is looked at each second, under the hands of whoever is about to cancel it.
    page.get_by_role("button", name="Cancel the rest").focus()
    with page.expect_response(f"**/replay-batch/{ReplayBatch.objects.get().pk}"):
        pass
    with page.expect_response(f"**/replay-batch/{ReplayBatch.objects.get().pk}"):
        pass
    expect(page.get_by_role("button", name="Cancel the rest")).to_be_focused()
    page.keyboard.press("Enter")
    expect(dialog).to_contain_text("3 events will not be replayed")
    dialog.get_by_role("button", name="Cancel the rest").click()
    expect(dialog).to_contain_text("Cancelled.")
    dialog.get_by_role("button", name="Close").click()
    expect(page.locator("main")).to_contain_text("Cancelled by grace-admin@example.com")
    assert ReplayBatch.objects.get().state == "cancelled"
    assert [event(each).state for _, each in made] == ["dead"] * 3
    page.get_by_role("link", name="Dead letters", exact=True).first.click()
    expect(page.get_by_role("table", name="Replays of many")).to_contain_text("0 of 3")


@pytest.mark.skipif(not LONG, reason="it waits until the web process gives the store up: BILLING_TESTS=long")
def test_while_the_store_is_away_what_is_followed_is_followed_on(signed_in, letters, servers):
    from billing_service.documents import ReplayBatch

    letters(2)
    page = signed_in("#/deadletters")
    page.get_by_role("button", name="Replay all", exact=True).click()
    page.locator("#action-dialog").get_by_label("Type 2 to confirm").fill("2")
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_contain_text("It waits for a worker.")
    os.kill(servers.mongod.pid, signal.SIGSTOP)
    try:
        expect(page.locator(".parts .trouble")).to_contain_text("store_unavailable", timeout=60_000)
        expect(page.locator("main")).to_contain_text("It waits for a worker.")
    finally:
        os.kill(servers.mongod.pid, signal.SIGCONT)
    expect(page.locator(".parts .trouble")).to_have_count(0, timeout=60_000)
    ReplayBatch.objects.get().modify(set__state="cancelled", set__cancelled_by="ada@example.com")
    expect(page.locator("main")).to_contain_text("Cancelled by ada@example.com")


def test_a_dead_letter_is_closed_with_a_note(signed_in, letters):
    [(it, event_id)] = letters(1)
    page = signed_in(f"#/deadletters/{event_id}")
    page.locator("#close").click()
    dialog = page.locator("#action-dialog")
    expect(dialog).to_contain_text("It will be closed")
    assert event(event_id).state == "dead"
    dialog.get_by_label("Note").fill("Sent by mistake & known")
    dialog.get_by_role("button", name=f"Close the letter {event_id}").click()
    expect(dialog).to_contain_text("Closed.")
    dialog.get_by_role("button", name="Close", exact=True).click()
    expect(page.get_by_role("heading", name="Closed")).to_be_visible()
    closed = event(event_id)
    assert (closed.state, closed.closed.note, closed.closed.by) == (
        "closed",
        "Sent by mistake & known",
        "grace-admin@example.com",
    )
    assert it.plan == "free"
    assert page.locator("#close").count() == 0


def test_an_event_that_succeeded_is_handled_again_only_if_that_is_meant(signed_in, letters, worker):
    [(it, event_id)] = letters(1, state="succeeded", outcome="applied", dead_at=None)
    page = signed_in(f"#/events/{event_id}")
    page.get_by_role("button", name="Handle it again").click()
    dialog = page.locator("#action-dialog")
    expect(dialog).to_contain_text("This will change plan free to pro")
    meant = dialog.get_by_label("Although it is succeeded")
    meant.uncheck()
    dialog.get_by_role("button", name="Preview").click()
    expect(dialog.get_by_role("alert")).to_contain_text("already_succeeded")
    expect(dialog.get_by_role("button", name=f"Replay {event_id}")).to_be_disabled()
    meant.check()
    dialog.get_by_role("button", name="Preview").click()
    dialog.get_by_role("button", name=f"Replay {event_id}").click()
    expect(dialog).to_contain_text("Done: applied.")
    assert (it.plan, it.row.plan, event(event_id).state) == ("pro", "pro", "succeeded")


def test_who_may_only_read_is_offered_nothing_else_and_sees_it_masked(signed_in, letters):
    [(_, event_id)] = letters(1, payload=json.dumps({"id": "evt_1", "email": "jenny@example.com"}))
    page = signed_in("#/deadletters", roles=("auditor",))
    expect(page.locator(".groups li")).to_have_count(1)
    assert page.get_by_role("button", name=re.compile("Replay")).count() == 0
    page.goto(f"/console#/deadletters/{event_id}")
    expect(page.get_by_label("Payload as JSON")).to_be_visible()
    expect(page.locator("main")).to_contain_text("your role lacks payload:read")
    assert "jenny@example.com" not in page.locator("main").inner_text()
    assert page.locator("#replay, #close").count() == 0


def test_the_filter_is_kept_in_the_address_and_goes_into_the_replay(signed_in, letters):
    letters(1)
    letters(2, fingerprint="KeyError: 'x'", reason="outage")
    page = signed_in("#/deadletters")
    expect(page.locator(".groups li")).to_have_count(2)
    page.get_by_role("link", name="Show 2 of customer.subscription.created").click()
    expect(page.get_by_role("table", name="Dead letters").locator("tbody tr")).to_have_count(2)
    assert "fingerprint=KeyError: 'x'" in unquote(page.url).replace("+", " ")
    page.reload()
    expect(page.get_by_label("Fingerprint")).to_have_value("KeyError: 'x'")
    expect(page.locator(".groups li")).to_have_count(1)
    page.get_by_label("Dead from").fill("2020-01-01T00:00")
    page.get_by_role("button", name="Filter").click()
    page.get_by_role("button", name="Replay all that match").click()
    dialog = page.locator("#action-dialog")
    expect(dialog).to_contain_text("2 events will be replayed.")
    expect(dialog).to_contain_text("dead from 1 Jan 2020")
    dialog.get_by_role("button", name="Close").click()
    page.get_by_role("link", name="Clear").click()
    expect(page.get_by_role("table", name="Dead letters").locator("tbody tr")).to_have_count(3)


def test_what_stripe_cannot_help_with_is_not_offered(signed_in, letters):
    [(_, event_id)] = letters(1, reason="wrong_mode", fingerprint=None, livemode=True)
    page = signed_in("#/deadletters")
    expect(page.locator(".groups li")).to_contain_text("It is of the other mode, live or test")
    assert page.locator(".groups").get_by_role("button").count() == 0
    page.get_by_role("button", name="Replay all", exact=True).click()
    dialog = page.locator("#action-dialog")
    expect(dialog).to_contain_text("Nothing that matches can be replayed.")
    expect(dialog).to_contain_text("1 other is left out")
    expect(dialog.get_by_role("button", name="Replay", exact=False).last).to_be_disabled()
    page.keyboard.press("Escape")
    page.goto(f"/console#/deadletters/{event_id}")
    expect(page.locator(".verdict")).to_contain_text("No replay can help.")
    assert page.locator("#replay").count() == 0


def test_trouble_is_told_with_its_request_id_where_it_is(signed_in, letters):
    letters(1)
    page = signed_in("#/deadletters?reason=handler_failed&orgId=17")
    alerts = page.locator(".trouble")
    expect(alerts).to_have_count(2)
    for alert in alerts.all():
        expect(alert).to_contain_text("24 hexadecimal characters")
        expect(alert).to_contain_text(re.compile("request id [0-9a-f-]{8,}"))
    page.get_by_label("Organization id").fill("")
    page.get_by_role("button", name="Filter").click()
    expect(alerts).to_have_count(0)
    expect(page.locator(".groups li")).to_have_count(1)


def test_an_event_is_found_in_the_ledger(signed_in, letters):
    [(it, event_id)] = letters(1)
    letters(2, state="succeeded", outcome="applied")
    page = signed_in("#/events")
    expect(page.get_by_role("table", name="Events").locator("tbody tr")).to_have_count(3)
    page.get_by_label("State").select_option("dead")
    expect(page.get_by_role("table", name="Events").locator("tbody tr")).to_have_count(1)
    assert "state=dead" in page.url
    page.get_by_role("table", name="Events").get_by_role("link", name="customer.subscription.created").click()
    expect(page.get_by_role("heading", name="customer.subscription.created", level=1)).to_be_focused()
    expect(page.get_by_role("table", name="Attempts")).to_contain_text("no plan for price_17")
    expect(page.get_by_role("table", name="Attempts")).to_contain_text("1.4.2")
    page.get_by_role("link", name="Show the customer").click()
    expect(page).to_have_url(re.compile(f"#/customer/{it.id}"))
    page.go_back()
    expect(page.locator("#view")).to_contain_text(event_id)


@pytest.mark.parametrize("unknown", ["evt_nobody", "f" * 24])
def test_what_is_not_there_is_said(signed_in, unknown):
    page = signed_in(f"#/deadletters/{unknown}")
    alert = page.locator("#view .trouble")
    expect(alert).to_contain_text(re.compile("There is no|has no"))
    expect(alert).to_contain_text("request id")
