"""Failed sign-ins slow down the next ones, in all processes, and lock nobody out for ever."""

import threading

import pytest

from billing_service import create_app
from billing_service.documents import LoginThrottle
from billing_service.settings import Settings

from .conftest import PASSWORD

WRONG = "another password"


def fail(sign_in, times, email="grace@example.com", **how):
    return [sign_in(email, WRONG, **how).status_code for _ in range(times)]


def test_the_fifth_failure_makes_one_wait_and_says_how_long(person, sign_in, clock):
    person()
    assert fail(sign_in, 5) == [401] * 5
    refused = sign_in()
    assert (refused.status_code, refused.json["code"]) == (429, "login_throttled")
    assert refused.headers["Retry-After"] == "1"
    clock(1)
    assert sign_in().status_code == 200


def test_the_delay_doubles_up_to_five_minutes(person, sign_in, clock):
    person()
    fail(sign_in, 5)
    waits = []
    for _ in range(11):
        waits.append(int(sign_in().headers["Retry-After"]))
        clock(waits[-1])
        assert sign_in(password=WRONG).status_code == 401
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


def test_asking_while_one_waits_prolongs_nothing(person, sign_in, clock):
    person()
    fail(sign_in, 8)
    clock(0.5)
    assert fail(sign_in, 20) == [429] * 20
    clock(0.5)
    assert sign_in().status_code == 200


def test_success_resets(person, sign_in, clock):
    person()
    fail(sign_in, 4)
    assert sign_in().status_code == 200
    assert fail(sign_in, 5) == [401] * 5


def test_what_failed_a_day_ago_counts_no_more(person, sign_in, clock):
    person()
    fail(sign_in, 5)
    clock(24 * 3600 + 2)
    assert fail(sign_in, 5) == [401] * 5


def test_an_unknown_e_mail_is_throttled_alike(sign_in, clock):
    """Otherwise the delay would tell who has an account."""
    assert fail(sign_in, 6, "nobody@example.com") == [401] * 5 + [429]


def test_the_e_mail_counts_from_all_addresses_and_in_any_case(person, sign_in, clock):
    person()
    found = [sign_in(email, WRONG, f"192.0.2.{n}").status_code for n, email in enumerate(["grace@example.com"] * 5)]
    assert found == [401] * 5
    assert sign_in("GRACE@example.com", PASSWORD, "192.0.2.99").status_code == 429


def test_an_address_counts_over_all_e_mails(sign_in, clock):
    found = [sign_in(f"u{n}@example.com", WRONG).status_code for n in range(22)]
    assert found == [401] * 20 + [429] * 2
    assert sign_in("u1@example.com", WRONG, "192.0.2.2").status_code == 401


def test_ones_own_account_buys_no_guesses_at_others(person, sign_in, clock):
    """Who signs in well in between does not reset what the address has failed."""
    person("mallory@example.com", "support")
    found = []
    for n in range(22):
        found.append(sign_in(f"u{n}@example.com", WRONG).status_code)
        sign_in("mallory@example.com")
    assert found == [401] * 20 + [429] * 2


def test_an_attacker_does_not_lock_out_who_signed_in_from_there_before(person, sign_in, clock):
    person()
    assert sign_in(address="198.51.100.7").status_code == 200
    for n in range(40):  # from many addresses, so that the e-mail is held up as long as can be
        sign_in(password=WRONG, address=f"203.0.113.{n}")
    assert sign_in(address="203.0.113.99").status_code == 429
    assert sign_in(address="198.51.100.7").status_code == 200


def test_a_known_address_may_not_guess_for_ever_either(person, sign_in, clock):
    person()
    sign_in(address="198.51.100.7")
    assert fail(sign_in, 6, address="198.51.100.7") == [401] * 5 + [429]


def test_an_address_is_known_for_thirty_days(person, sign_in, clock):
    person()
    sign_in(address="198.51.100.7")
    clock(30 * 86400 + 1)
    fail(sign_in, 5, address="203.0.113.1")
    assert sign_in(address="198.51.100.7").status_code == 429


def test_the_wait_ends_for_a_new_address_too(person, sign_in, clock):
    """Nobody is locked: at most five minutes after the last attempt that was let through it may be tried again."""
    person()
    for n in range(60):
        sign_in(password=WRONG, address=f"203.0.113.{n}")
        clock(30)
    clock(300)
    assert sign_in(address="198.51.100.8").status_code == 200


def test_it_is_shared_by_all_processes(environment, app, person, sign_in):
    """Two applications on the same stores, as two web processes are."""
    from mongoengine import disconnect_all

    from billing_service.documents import connect

    person()
    assert fail(sign_in, 5) == [401] * 5
    other = create_app(Settings.from_env(environment)).test_client()
    body = {"email": "grace@example.com", "password": PASSWORD}
    assert other.post("/api/auth/login", json=body).status_code == 429
    disconnect_all()
    connect(environment["MONGODB_URI"])


def test_many_at_once_get_no_more_guesses_than_one_by_one(app, person, clock):
    person()
    found = []

    def guess(number):
        body = {"email": "grace@example.com", "password": f"{WRONG} {number}"}
        found.append(app.test_client().post("/api/auth/login", json=body).status_code)

    threads = [threading.Thread(target=guess, args=[number]) for number in range(16)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(found) == [401] * 5 + [429] * 11


def test_neither_e_mails_nor_addresses_are_stored(sign_in, clock):
    """What is typed into the field of the e-mail may be a password."""
    fail(sign_in, 1, "my secret password", address="198.51.100.7")
    stored = str([row.to_mongo() for row in LoginThrottle.objects])
    assert "secret" not in stored
    assert "198.51" not in stored
    assert all(row.expires_at > row.next_at for row in LoginThrottle.objects)


SENT = "203.0.113.5, 198.51.100.7"


@pytest.mark.parametrize(
    ("proxies", "sent", "address", "same"),
    [
        (0, SENT, "192.0.2.1", "192.0.2.1"),
        (1, SENT, "192.0.2.1", "198.51.100.7"),
        (2, SENT, "192.0.2.1", "203.0.113.5"),
        (3, SENT, "192.0.2.1", "192.0.2.1"),
        (1, "", "192.0.2.1", "192.0.2.1"),
        (1, "nonsense", "192.0.2.1", "192.0.2.1"),
        (1, "203.0.113.5:8080", "192.0.2.1", "192.0.2.1"),
        (0, "", "::ffff:192.0.2.1", "192.0.2.1"),
        (0, "", "2001:db8:1:2:aaaa::1", "2001:db8:1:2::/64"),
        (0, "", "", "unknown"),
    ],
)
def test_proxies_are_trusted_only_by_the_setting(app, configured, proxies, sent, address, same):
    from billing_service.blueprints.auth import client_address

    configured(trusted_proxies=proxies)
    headers = {"X-Forwarded-For": sent} if sent else {}
    with app.test_request_context("/", headers=headers, environ_overrides={"REMOTE_ADDR": address}):
        assert client_address() == same


def test_a_forged_header_buys_no_guesses(client, clock):
    found = []
    for n in range(22):
        answer = client.post(
            "/api/auth/login",
            json={"email": f"u{n}@example.com", "password": WRONG},
            headers={"X-Forwarded-For": f"203.0.113.{n}"},
        )
        found.append(answer.status_code)
    assert found == [401] * 20 + [429] * 2
