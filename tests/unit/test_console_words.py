"""The console has words for all that the API names, and asks for all its parts at once: what is new needs a row."""

import re
from pathlib import Path

from billing_service.documents.admin_action import OUTCOMES
from billing_service.documents.finding import SEVERITIES
from billing_service.documents.refund_request import STATES as REFUND_STATES
from billing_service.documents.replay_batch import BATCH_STATES, ITEM_STATES
from billing_service.documents.webhook_event import SOURCES, STATES
from billing_service.jobs.schedule import SCHEDULE
from billing_service.reconciliation.causes import CAUSES
from billing_service.reconciliation.diagnosis import KINDS
from billing_service.timeline import KINDS as TIMELINE

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "billing_service"
VIEWS = PACKAGE / "blueprints" / "console" / "static" / "views"


def words(module: str) -> set[str]:
    """All names that a view's module has as a key or as a text."""
    text = (VIEWS / f"{module}.js").read_text()
    return set(re.findall(r'"([a-z_]+)"', text)) | set(re.findall(r"^\s+([a-z_]+):", text, re.MULTILINE))


def reasons() -> set[str]:
    """The reasons of dead letters that the runbook has."""
    table = (ROOT / "docs" / "runbooks" / "dead-letters.md").read_text()
    rows = re.findall(r"^\s+\| ((?:`[a-z_]+`(?:, )?)+) \|", table, re.MULTILINE)
    return {name for row in rows for name in re.findall("`([a-z_]+)`", row)}


def actions() -> set[str]:
    """What the admin toolkit writes into the audit log."""
    sources = [path.read_text() for path in (PACKAGE / "blueprints" / "admin").glob("*.py")]
    return {name for text in sources for name in re.findall(r'\bmutate\(\s*"([a-z_]+)"', text)}


def noted() -> set[str]:
    """The kinds of findings that are noted beside those of a reconciliation, as the command line knows them."""
    [names] = re.findall(r"\{\*KINDS, (.*?)\}", (PACKAGE / "cli" / "repairs.py").read_text())
    return {*re.findall('"([a-z_]+)"', names), "refund_unresolved"}


def test_every_reason_of_a_dead_letter_has_words():
    assert len(reasons()) > 10
    assert reasons() - words("states") == set()


def test_every_kind_and_cause_of_a_finding_has_words():
    assert "cancel_unverified" in noted()
    assert {*KINDS, *noted(), *CAUSES, *SEVERITIES} - words("kinds") == set()


def test_every_action_of_an_admin_has_words():
    assert len(actions()) > 12
    assert actions() - words("audit") == set()


def test_every_state_can_be_filtered_by():
    wanted = {
        "states": {*STATES, *SOURCES},
        "refunds": set(REFUND_STATES),
        "audit": set(OUTCOMES),
        "deadletters": set(BATCH_STATES),
        "batch": set(ITEM_STATES),
    }
    assert {module: names - words(module) for module, names in wanted.items()} == {module: set() for module in wanted}


def test_every_job_of_the_calendar_has_words():
    assert {row.job for row in SCHEDULE} - words("overview") == set()


def test_every_kind_of_the_timeline_has_words():
    assert set(TIMELINE) - words("customer_timeline") == set()


def test_every_module_is_asked_for_at_once():
    page = (VIEWS.parent / "index.html").read_text()
    asked = re.findall(r'<link rel="modulepreload" href="/console/([^"]+)">', page)
    there = {path.relative_to(VIEWS.parent).as_posix() for path in VIEWS.parent.rglob("*.js")}
    assert sorted(asked) == sorted(there - {"console.js"})
