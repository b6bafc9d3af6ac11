"""docs/differences.md: its requests in their order with the answers that it promises, each code with its status."""

import json
import re
from pathlib import Path

import pytest

from billing_service.errors import KINDS
from billing_service.jobs.dispatch import desk
from billing_service.webhooks import handle_due

DOCUMENT = Path(__file__).parents[3] / "docs" / "differences.md"
PREFIX = "/api/admin/billing"
REQUEST = re.compile(r"```http\n(\w+) (\S+)\n(\{.*\}\n)?\n(\d{3}) ([^`]+)\n```")


def requests():
    """(method, path, body or None, status, members of the answer) of each request in the document."""
    found = REQUEST.findall(DOCUMENT.read_text())
    return [
        (method, path, json.loads(body) if body else None, int(status), set(members.split(", ")))
        for method, path, body, status, members in found
    ]


@pytest.fixture
def ids(billed, disputed, lost, stripe):
    """What the capitals in the document stand for."""
    it, won = billed("pro"), disputed()
    (_, dead), = lost(1)  # fmt: skip
    return {
        "ORG": str(it.org_id),
        "CHARGE": stripe.charges.list({"customer": it.customer}).data[0].id,
        "DISPUTED_CHARGE": won.charge.id,
        "DISPUTED": str(won.org_id),
        "DEAD": dead,
    }


def test_each_request_is_answered_as_it_says(client, admin, ids, lost):
    asked = requests()
    assert len(asked) == DOCUMENT.read_text().count("```http") == 11
    for method, path, body, status, members in asked:
        path, body = filled(path, ids), json.loads(filled(json.dumps(body), ids))
        answer = client.open(path, method=method, json=body, headers=admin)
        assert answer.status_code == status, (method, path, answer.text)
        assert members <= set(answer.json), (method, path, members - set(answer.json))
        if "jobId" in members and method == "POST":
            ids["JOB"] = answer.json["jobId"]
            assert handle_due(desk(), stop=lambda: False)
        if path.endswith(f"replay/{ids.get('JOB')}"):
            assert answer.json["state"] == "succeeded"
            ids["DEAD"] = lost(1)[0][1]  # that one lives again


def filled(text, ids):
    """Longer names first: one is the beginning of another."""
    for name in sorted(ids, key=len, reverse=True):
        text = re.sub(rf"\b{name}\b", ids[name], text)
    return text


def test_each_code_has_the_status_that_it_says():
    text = re.sub(r"\s+", " ", DOCUMENT.read_text())
    statuses = {}
    for kind in KINDS:
        statuses.setdefault(kind.code, set()).add(str(kind.status))
    pairs = [(status, code) for status, code in re.findall(r"\b([45]\d\d) `([a-z_]+)`", text)]
    assert len(pairs) > 20
    assert [(status, code) for status, code in pairs if status not in statuses.get(code, ())] == []


def test_it_has_each_endpoint_that_can_be_compared(app):
    routes = {
        (method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule.removeprefix(PREFIX)))
        for rule in app.url_map.iter_rules()
        for method in rule.methods
    }
    for heading in re.findall(r"^## `(\w+) ([^`]+)`", DOCUMENT.read_text(), re.MULTILINE):
        assert heading in routes, heading
