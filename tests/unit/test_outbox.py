"""The table of signals: whatever the code tells is in it, and in the docs; what is sent of one."""

import ast
import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from bson import ObjectId

from billing_service import outbox
from billing_service.outbox import listeners
from billing_service.outbox.audiences import BACKEND, KINDS, PEOPLE, names_for
from billing_service.outbox.messages import LONGEST_TEXT, as_json, as_words, message_of, signature

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "billing_service"
NOW = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)

# Modules that store signals under a name that is not written in the call, and the names.
NAMED_ELSEWHERE = {
    "monitoring/alerts.py": {"recovered"},  # and the conditions' names, see below
    "subscriptions/convergence.py": set(),  # whatever decision.py makes of its own `Signal`
    "webhooks/handlers/money.py": {"dispute_opened", "dispute_lost", "dispute_reinstated"},
    "webhooks/missed.py": {"missed_events", "missed_events_gap"},
}


def stored_signals():
    """(module, the name as written in the call or None) of each call that makes a signal."""
    for path in PACKAGE.rglob("*.py"):
        module = str(path.relative_to(PACKAGE))
        if module.startswith(("outbox/", "sandbox/")):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("outbox.signal", "Signal") and node.args:
                name = node.args[0]
                yield module, name.value if isinstance(name, ast.Constant) else None


def test_every_signal_of_the_code_is_in_the_table():
    found = list(stored_signals())
    assert len(found) >= 5
    assert {name for _, name in found if name} <= set(KINDS)
    assert {module for module, name in found if name is None} == set(NAMED_ELSEWHERE)
    for module, names in NAMED_ELSEWHERE.items():
        words = {node.value for node in ast.walk(ast.parse((PACKAGE / module).read_text())) if is_text(node)}
        assert names <= words & set(KINDS), module


def is_text(node):
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def test_the_docs_have_the_table():
    text = (ROOT / "docs" / "signals.md").read_text()
    rows = dict(re.findall(r"^\| `([a-z_.]+)` \|(.*)$", text, re.MULTILINE))
    assert set(rows) == set(KINDS)
    told = {name: tuple("yes" in cell for cell in row.split("|")[:2]) for name, row in rows.items()}
    assert told == {name: (BACKEND in kind.audiences, PEOPLE in kind.audiences) for name, kind in KINDS.items()}


def test_each_name_has_somebody_and_words():
    assert all(kind.audiences and kind.words.endswith(".") for kind in KINDS.values())
    assert set(names_for(BACKEND)) | set(names_for(PEOPLE)) == set(KINDS)


def test_listeners_are_refused_for_a_name_that_is_never_sent():
    with pytest.raises(ValueError, match="plan_changed"):
        listeners.signal("plan_chnaged")


def row(**about):
    made = outbox.signal("plan_changed", "sub:1:plan_changed", now=NOW, organization=ObjectId("a" * 24), **about)
    made.id = ObjectId("b" * 24)
    return made


def test_the_message():
    facts = {"price_id": None, "findings": [{"money_at_risk": 1.5}], "by_type": {"a.b_c": 1}, "org": ObjectId("c" * 24)}
    assert json.loads(as_json(message_of(row(facts=facts, version=3)))) == {
        "id": "b" * 24,
        "name": "plan_changed",
        "orgId": "a" * 24,
        "createdAt": "2026-11-22T03:00:00.000Z",
        "version": 3,
        "facts": {
            "priceId": None,
            "findings": [{"moneyAtRisk": 1.5}],
            "byType": {"a.b_c": 1},
            "org": "c" * 24,
        },
    }


def test_words_are_short_enough_and_cannot_call_a_channel():
    text = json.loads(as_words(message_of(row(facts={"name": "<!here>" * 1000}))))["text"]
    assert len(text) < 4 * LONGEST_TEXT
    assert "<" not in text


def test_the_signature_is_the_documented_one():
    # printf '1795316400.{}' | openssl dgst -sha256 -hmac secret
    proof = "163aed9be7b764184104b8344144c3edb5cbbaed4b4c7095092d221b5d0ac875"
    assert signature(b"{}", "secret", NOW) == f"t=1795316400,v1={proof}"
