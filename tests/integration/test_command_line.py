"""Every command: it explains itself, tells programs what it tells people, and fails in words."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import click
import pytest
from click.testing import CliRunner

from billing_service.cli import cli

# What the documentation promises.
CONTRACT = {
    *("dev", "web", "worker", "scheduler", "doctor", "indexes", "import", "reconcile", "sync", "link", "replay"),
    *("dead-letters", "events", "dispatch", "jobs", "user", "token", "webhook-types", "forget"),
}
PROCESSES = {"dev", "web", "worker", "scheduler"}

ORG, EVENT = "650000000000000000000001", "evt_1"
# Arguments that each command takes, and what it ends with when neither MongoDB nor Redis is there.
SAMPLES = {
    "dead-letters close": ([EVENT, "--note", "why"], 1),
    "dead-letters groups": ([], 1),
    "dead-letters list": ([], 1),
    "dead-letters show": ([EVENT], 1),
    "dispatch pause": ([], 1),
    "dispatch resume": ([], 1),
    "dispatch status": ([], 1),
    "doctor": ([], 2),
    "events tail": ([], 1),
    "forget": (["--customer", "cus_1", "--apply"], 1),
    "import": ([], 2),
    "import items": ([], 1),
    "indexes": ([], 1),
    "jobs list": ([], 1),
    "jobs run": (["dunning"], 1),
    "link": ([ORG, "sub_1"], 1),
    "reconcile": ([], 2),
    "replay": ([EVENT], 1),
    "replay-batch cancel": ([ORG], 1),
    "replay-batch run": (["--state", "dead"], 1),
    "replay-batch show": ([ORG], 1),
    "sync": ([ORG], 1),
    "token": ([], 0),
    "user create": (["ada@example.com", "--role", "admin"], 1),
    "user disable": (["ada@example.com"], 1),
    "user enable": (["ada@example.com"], 1),
    "user list": ([], 1),
    "user password": (["ada@example.com"], 1),
    "webhook-types": ([], 0),
}


def commands(group=cli, path=()):
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        if not isinstance(command, click.Group) or command.invoke_without_command:
            yield " ".join((*path, name)), command


COMMANDS = dict(commands())


def test_the_commands_that_are_promised_are_there():
    assert set(cli.commands) >= CONTRACT
    assert set(SAMPLES) | PROCESSES == set(COMMANDS)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_it_explains_itself(name):
    told = CliRunner().invoke(cli, [*name.split(), "--help"])
    words = " ".join(told.output.split())
    assert told.exit_code == 0
    assert words.startswith("Usage: ")
    assert "Exit code" in words
    assert CliRunner().invoke(cli, [*name.split(), "-h"]).output == told.output


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - PROCESSES))
def test_it_tells_programs_too(name):
    options = {option: parameter for parameter in COMMANDS[name].params for option in parameter.opts}
    assert "--json" in options or "json" in options["--format"].type.choices


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_wrong_use_is_2_and_said(name):
    told = CliRunner().invoke(cli, [*name.split(), "--no-such-option"])
    assert told.exit_code == 2
    assert "No such option" in told.output


@pytest.fixture(scope="module")
def without_stores(environment):
    """What each command says when neither MongoDB nor Redis answers."""
    away = {"MONGODB_URI": "mongodb://127.0.0.1:1/billing?replicaSet=rs0", "REDIS_URL": "redis://127.0.0.1:1/0"}

    def run(name):
        return subprocess.run(
            [sys.executable, "-m", "billing_service.cli", *name.split(), *SAMPLES[name][0]],
            env=os.environ | environment | away,
            input="a password of some length\n",
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    with ThreadPoolExecutor(3) as pool:
        return dict(zip(SAMPLES, pool.map(run, SAMPLES), strict=True))


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_without_its_stores_it_fails_in_words(without_stores, name):
    done = without_stores[name]
    said = done.stdout + done.stderr
    assert "Traceback" not in said
    assert done.returncode == SAMPLES[name][1], said
    assert done.stdout if done.returncode == 0 else "does not answer" in said


def test_an_index_that_cannot_be_made_is_said_in_words(app, command_line):
    from mongoengine.connection import get_db

    from billing_service.documents import DOCUMENTS, ensure_indexes

    rows = get_db().webhook_events
    rows.drop_index("event_id")
    try:
        rows.insert_many([{"event_id": "ada@example.com"}, {"event_id": "ada@example.com"}])
        code, _, said = command_line("indexes")
        assert (code, "index_refused: webhook_events" in said) == (1, True)
        assert "ada" not in said
        rows.delete_many({})
        rows.create_index("type", name="event_id")
        code, _, said = command_line("indexes")
        assert (code, "dropIndex" in said) == (1, True)
        rows.drop_index("event_id")
        assert command_line("indexes")[0] == 0
    finally:
        rows.delete_many({})
        if rows.index_information().get("event_id", {}).get("key") != [("event_id", 1)]:
            rows.drop_indexes()
        ensure_indexes(DOCUMENTS)


def test_an_address_that_cannot_be_read_is_said_without_its_password(command_line):
    for uri in ("mongodb://me:pass@word:secret@x/billing", "mongodb://x:port/billing", "mongodb://[x/billing"):
        code, said, errors = command_line("indexes", MONGODB_URI=uri)
        assert (code, "MONGODB_URI" in errors) == (2, True), errors
        assert "Traceback" not in errors
        assert "secret" not in said + errors


@pytest.mark.parametrize("name", ["indexes", "jobs list", "web"])
def test_a_database_that_denies_access_is_said_in_words(app, servers, command_line, name):
    uri = servers.mongod.url.replace("mongodb://", "mongodb://nobody:thesecret@").replace("?", "?authSource=admin&")
    code, said, errors = command_line(*name.split(), MONGODB_URI=uri)
    assert (code, "AuthenticationFailed" in errors) == (2 if name == "web" else 1, True), errors
    assert "Traceback" not in errors
    assert "thesecret" not in said + errors
