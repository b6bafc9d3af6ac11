"""Signing in: by e-mail and password with cookies, by a pasted token; renewed silently, asked for when it ended."""

import time

import pytest
import requests
from playwright.sync_api import expect

from .conftest import PASSWORD, open_as, paste, sign_in


def cookies(page):
    return {each["name"]: each for each in page.context.cookies()}


def test_one_signs_in_with_a_password(page, person, upgraded):
    person()
    page.goto("/console")
    sign_in(page)
    expect(page.locator("#who")).to_have_text("grace@example.com (admin)")
    expect(page.get_by_role("heading", name="Overview", level=1)).to_be_visible()
    kept = cookies(page)
    assert kept["access_token_cookie"]["httpOnly"] is True
    assert kept["refresh_token_cookie"]["httpOnly"] is True
    assert {each["sameSite"] for each in kept.values()} == {"Strict"}
    assert page.evaluate("Object.keys(localStorage).length + Object.keys(sessionStorage).length") == 0


def test_a_wrong_password_is_said_and_the_address_stays(page, person):
    person()
    page.goto("/console")
    sign_in(page, password="not this one, no")
    dialog = page.locator("#sign-in-dialog")
    expect(dialog.get_by_role("alert").last).to_contain_text("The e-mail or the password is wrong")
    expect(dialog.get_by_role("alert").last).to_contain_text("request id")
    expect(dialog.get_by_label("E-mail")).to_have_value("grace@example.com")
    expect(dialog.get_by_label("Password", exact=True)).to_be_focused()
    sign_in(page)
    expect(dialog).to_be_hidden()


def test_a_sign_in_writes_with_csrf(page, person, upgraded):
    person()
    page.goto(upgraded.address)
    sign_in(page)
    page.locator("#act-sync").click()
    page.locator("#action-dialog").get_by_role("button", name="Sync", exact=True).click()
    expect(page.locator("#action-dialog")).to_contain_text("Done")
    assert upgraded.actions[0].actor == "grace@example.com"


def test_an_access_token_that_ended_is_renewed_silently(page, person, upgraded):
    """The browser forgets its cookie with it; the refresh token gets the next one, once."""
    person()
    page.goto(upgraded.address)
    sign_in(page)
    expect(page.locator(".verdict")).to_be_visible()
    first = cookies(page)["refresh_token_cookie"]["value"]
    for name in ("access_token_cookie", "csrf_access_token"):
        page.context.clear_cookies(name=name)
    page.get_by_role("link", name="Overview").click()
    expect(page.get_by_role("heading", name="Overview", level=1)).to_be_visible()
    expect(page.locator("#sign-in-dialog")).to_be_hidden()
    expect(page.locator(".tile")).not_to_have_count(0)
    assert cookies(page)["refresh_token_cookie"]["value"] != first


def test_two_tabs_renew_in_turn(tab, page, person, upgraded):
    """A refresh token that is used twice ends the session: only one of them may use it."""
    person()
    page.goto(upgraded.address)
    sign_in(page)
    expect(page.locator(".verdict")).to_be_visible()
    other = tab.watched(page.context.new_page())
    other.goto(upgraded.address)
    expect(other.locator(".verdict")).to_be_visible()
    for _ in range(3):
        for name in ("access_token_cookie", "csrf_access_token"):
            page.context.clear_cookies(name=name)
        for each in (page, other):
            each.evaluate("location.hash = location.hash.includes('overview') ? '#/customer' : '#/overview'")
        for each in (page, other):
            expect(each.locator(".view:not([aria-busy]) h1")).to_be_visible()
            expect(each.locator("#sign-in-dialog")).to_be_hidden()
            expect(each.locator(".trouble")).to_have_count(0)


def test_signing_out_ends_the_session(page, person, upgraded, web):
    person()
    page.goto(upgraded.address)
    sign_in(page)
    expect(page.locator(".verdict")).to_be_visible()
    sent = {"access_token_cookie": cookies(page)["access_token_cookie"]["value"]}
    assert requests.get(f"{web}/api/auth/me", cookies=sent, timeout=10).status_code == 200
    page.get_by_role("button", name="Sign out").click()
    expect(page.locator("#sign-in-dialog")).to_be_visible()
    assert cookies(page) == {}
    assert requests.get(f"{web}/api/auth/me", cookies=sent, timeout=10).status_code == 401
    assert upgraded.id not in page.locator("main").inner_text()
    page.get_by_role("button", name="Not now").first.click()
    expect(page.locator("#who")).to_have_text("Not signed in")
    expect(page.locator("#navigation a")).to_have_count(0)
    expect(page.get_by_role("alert")).to_contain_text("Sign in to go on")


def test_who_signs_in_after_another_sees_only_the_own_views(page, person, upgraded):
    person("grace@example.com", "admin")
    person("tom@example.com", "service")
    page.goto("/console")
    sign_in(page)
    expect(page.locator("#navigation a")).not_to_have_count(0)
    page.get_by_role("button", name="Sign out").click()
    sign_in(page, "tom@example.com")
    expect(page.locator("#who")).to_contain_text("tom@example.com")
    expect(page.locator("#navigation a")).to_have_count(0)
    expect(page.get_by_role("alert")).to_contain_text("customer:read")
    expect(page.locator("#search")).to_be_hidden()


def test_a_user_who_was_disabled_is_asked_to_sign_in(page, person, upgraded):
    from billing_service.documents import AdminUser

    person()
    page.goto(upgraded.address)
    sign_in(page)
    expect(page.locator(".verdict")).to_be_visible()
    AdminUser.objects(email="grace@example.com").update_one(set__disabled=True, inc__version=1)
    page.get_by_role("link", name="Overview").click()
    expect(page.locator("#sign-in-dialog")).to_be_visible()
    expect(page.locator("#sign-in-why")).not_to_be_empty()


def test_a_token_that_ran_out_is_asked_for_again_and_nothing_typed_is_lost(page, admin, token, upgraded):
    open_as(page, admin, upgraded)
    page.get_by_role("button", name="Sync from Stripe").click()
    dialog = page.locator("#action-dialog")
    expect(dialog).to_contain_text("This will change")
    dialog.get_by_label("Note").fill("They called twice.")
    expired = token("admin", minutes=-5)["Authorization"].removeprefix("Bearer ")
    page.evaluate("expired => sessionStorage.setItem('billing-console-token', expired)", expired)
    dialog.get_by_role("button", name="Sync", exact=True).click()
    expect(page.locator("#sign-in-why")).to_have_text("The token has expired.")
    paste(page, admin)
    expect(dialog).to_contain_text("Done: changed plan pro to business")
    assert [each.note for each in upgraded.actions] == ["They called twice."] * 2 + [None] * 2


def test_a_session_that_ended_is_asked_for_above_what_is_typed(page, person, upgraded):
    person()
    page.goto(upgraded.address)
    sign_in(page)
    page.locator("#act-sync").click()
    dialog = page.locator("#action-dialog")
    expect(dialog).to_contain_text("This will change")
    dialog.get_by_label("Note").fill("They called twice.")
    page.context.clear_cookies()
    dialog.get_by_role("button", name="Sync", exact=True).click()
    sign_in(page)
    expect(dialog).to_contain_text("Done: changed plan pro to business")
    assert upgraded.actions[0].note == "They called twice."


def test_a_pasted_token_is_kept_in_the_tab_alone(page, admin, upgraded):
    open_as(page, admin, upgraded)
    assert page.evaluate("Object.keys(localStorage).length") == 0
    assert page.context.cookies() == []
    page.get_by_role("button", name="Sign out").click()
    assert page.evaluate("Object.keys(sessionStorage).length") == 0


def test_a_pasted_token_that_is_none_is_not_kept(page, app):
    page.goto("/console")
    paste(page, {"Authorization": "Bearer not.a.token"})
    expect(page.locator("#sign-in-trouble")).to_contain_text("request id")
    assert page.evaluate("Object.keys(sessionStorage).length") == 0


@pytest.mark.parametrize("way", ["password", "token"])
def test_nothing_of_a_sign_in_is_in_the_address_or_the_page(page, person, admin, way):
    person()
    page.goto("/console")
    sign_in(page) if way == "password" else paste(page, admin)
    expect(page.get_by_role("heading", name="Overview", level=1)).to_be_visible()
    secret = PASSWORD if way == "password" else admin["Authorization"].removeprefix("Bearer ")
    assert secret not in page.content()
    assert secret not in page.url
    assert page.locator("#password").input_value() == page.locator("#token").input_value() == ""


def test_whoever_has_no_sign_in_asks_nothing_of_the_service(page, web):
    asked = []
    page.on("request", lambda each: asked.append(each.url) if "/api/" in each.url else None)
    page.goto("/console")
    expect(page.locator("#sign-in-dialog")).to_be_visible()
    time.sleep(0.3)
    assert asked == []


def test_what_another_tab_did_to_the_sign_in_is_noticed(tab, person, upgraded):
    """Nobody acts in the name of somebody else, or sees what they saw, because a tab was left open."""
    person()
    person("ines@example.com", "support")
    page = tab()
    page.goto(upgraded.address)
    sign_in(page)
    expect(page.locator("#act-cancel")).to_be_enabled()
    page.locator("#act-sync").click()
    beside = tab.watched(page.context.new_page())
    beside.goto("/console")
    beside.get_by_role("button", name="Sign out").click()
    expect(page.locator("#sign-in-dialog")).to_be_visible()
    expect(page.locator("#action-dialog")).to_be_hidden()
    expect(page.locator(".verdict")).to_have_count(0)
    sign_in(beside, "ines@example.com")
    expect(beside.locator("#who")).to_have_text("ines@example.com (support)")

    page.bring_to_front()
    page.evaluate("window.dispatchEvent(new Event('focus'))")
    expect(page.locator("#who")).to_have_text("ines@example.com (support)")
    expect(page.locator("#sign-in-dialog")).to_be_hidden()
    expect(page.locator("#act-cancel")).to_be_disabled()

    who = {"email": "grace@example.com", "password": PASSWORD, "cookies": True}
    signed = page.context.request.post("/api/auth/login", data=who)
    assert signed.ok, signed.text()
    page.evaluate("window.dispatchEvent(new Event('focus'))")
    expect(page.locator("#who")).to_have_text("grace@example.com (admin)")
    expect(page.locator("#act-cancel")).to_be_enabled()
