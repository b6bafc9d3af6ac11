"""billing-service user create|disable|enable|list|password"""

import json
import os
import subprocess
import sys

import pytest

from billing_service.documents import AdminAction, AdminOperation, AdminUser

PASSWORD = "correct horse battery"
EMAIL = "grace@example.com"


@pytest.fixture
def run(app, environment):
    """Runs a command with something on its standard input; returns its exit code, output and error output."""

    def command(*arguments, given="", **changes):
        done = subprocess.run(
            [sys.executable, "-m", "billing_service.cli", "user", *arguments],
            env=os.environ | environment | changes,
            input=given,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert PASSWORD not in done.stdout + done.stderr
        return done.returncode, done.stdout, done.stderr

    return command


def signs_in(client, password=PASSWORD):
    return client.post("/api/auth/login", json={"email": EMAIL, "password": password}).status_code == 200


def test_a_user_is_made_disabled_enabled_and_given_a_new_password(run, client):
    code, said, error = run(
        "create", "Grace@example.com", "--role", "support", "--role", "auditor", given=PASSWORD + "\n"
    )
    assert code == 0, error
    assert said == "grace@example.com: enabled; changed: email, roles, disabled, password\n"
    assert signs_in(client)
    assert run("disable", EMAIL, "--note", "left")[:2] == (0, "grace@example.com: disabled; changed: disabled\n")
    assert not signs_in(client)
    assert run("disable", EMAIL)[:2] == (0, "grace@example.com: disabled; changed: nothing\n")
    assert run("enable", EMAIL)[0] == 0
    assert signs_in(client)
    assert run("password", EMAIL, given="another good password")[0] == 0
    assert not signs_in(client)
    assert signs_in(client, "another good password")


def test_it_is_listed(run):
    assert run("list")[:2] == (0, "no users\n")
    run("create", EMAIL, "--role", "admin", given=PASSWORD)
    code, said, _ = run("list")
    assert code == 0
    assert said.startswith("grace@example.com  admin  enabled  changed 20")
    [shown] = json.loads(run("list", "--json")[1])["users"]
    assert set(shown) == {"id", "email", "roles", "disabled", "createdAt", "changedAt"}


def test_it_answers_json(run):
    _, said, _ = run("create", EMAIL, "--role", "admin", "--json", given=PASSWORD)
    answer = json.loads(said)
    assert answer["updated"]["email"] == EMAIL
    assert set(answer) == {"previous", "updated", "changed"}


def test_it_is_recorded(run):
    run("create", EMAIL, "--role", "admin", "--note", "the first", "--actor", "olga", given=PASSWORD)
    intent, outcome = AdminAction.objects.order_by("id")
    assert (intent.phase, outcome.phase, outcome.outcome) == ("intent", "outcome", "succeeded")
    assert (outcome.actor, outcome.role, outcome.note, outcome.action) == ("olga", "cli", "the first", "create_user")
    stored = str([each.to_mongo() for each in [*AdminAction.objects, *AdminOperation.objects]])
    assert PASSWORD not in stored
    assert "argon2" not in stored


def test_the_last_admin_can_be_disabled_here(run):
    """Whoever runs commands can make users and tokens: a stolen account must be stopped, the last one's too."""
    run("create", EMAIL, "--role", "admin", given=PASSWORD)
    assert run("disable", EMAIL)[0] == 0
    assert AdminUser.objects.first().disabled is True


@pytest.mark.parametrize("arguments", [["disable", EMAIL], ["enable", EMAIL], ["password", EMAIL]])
def test_an_unknown_user_is_refused(run, arguments):
    code, said, error = run(*arguments, given=PASSWORD)
    assert (code, said, error.splitlines()[-1].split(":")[0]) == (1, "", "user_not_found")


def test_a_user_that_exists_is_refused(run):
    run("create", EMAIL, "--role", "admin", given=PASSWORD)
    code, _, error = run("create", EMAIL, "--role", "admin", given=PASSWORD)
    assert (code, error.splitlines()[-1].split(":")[0]) == (1, "user_exists")


@pytest.mark.parametrize(
    ("arguments", "given", "code"),
    [
        (["create", EMAIL], PASSWORD, 2),
        (["create", EMAIL, "--role", "king"], PASSWORD, 2),
        (["create", "grace", "--role", "admin"], PASSWORD, 2),
        (["create", EMAIL, "--role", "admin"], "", 2),
        (["create", EMAIL, "--role", "admin"], "short", 2),
        (["create", EMAIL, "--role", "admin"], EMAIL, 1),
        (["create", EMAIL, "--role", "admin", "--password", "given as an argument"], "", 2),
        (["create", EMAIL, "given as an argument", "--role", "admin"], "", 2),
    ],
)
def test_it_rejects_bad_input(run, arguments, given, code):
    assert run(*arguments, given=given)[0] == code
    assert len(AdminUser.objects) == 0


def test_with_an_issuer_there_are_no_users_here(run):
    issuer = {"JWT_SECRET_KEY": "", "JWT_JWKS_URL": "http://127.0.0.1:9/", "JWT_ISSUER": "i", "JWT_AUDIENCE": "a"}
    code, _, error = run("create", EMAIL, "--role", "admin", given=PASSWORD, **issuer)
    assert (code, "JWT_JWKS_URL" in error) == (2, True)


def test_the_store_away_is_told(run):
    code, _, error = run("list", MONGODB_URI="mongodb://127.0.0.1:1/billing")
    assert (code, error.splitlines()[-1].split(":")[0]) == (1, "store_unavailable")


def test_the_terminal_asks_twice_and_shows_nothing(environment, app):
    """On a terminal the password is asked for, without an echo."""
    import pty

    leader, follower = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "billing_service.cli", "user", "create", EMAIL, "--role", "admin"],
        env=os.environ | environment,
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
    )
    os.close(follower)
    shown = b""
    for prompt in (b"Password", b"Repeat for confirmation"):
        while prompt not in shown:
            shown += os.read(leader, 1024)
        os.write(leader, PASSWORD.encode() + b"\n")
    assert child.wait(30) == 0
    while b"enabled" not in shown:
        shown += os.read(leader, 1024)
    os.close(leader)
    assert PASSWORD.encode() not in shown
    assert AdminUser.objects(email=EMAIL).count() == 1
