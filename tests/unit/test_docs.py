"""What the documents promise is there: each test that they name, each file that they link to, each runbook's parts."""

import ast
import re
from pathlib import Path

import pytest
import yaml

from billing_service.outbox.audiences import PEOPLE, names_for

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
RUNBOOKS = sorted((DOCS / "runbooks").glob("*.md"))


def named(page):
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_each_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not re.match(r"[a-z]+:", target) and not target.startswith("#"):
            assert (page.parent / target.partition("#")[0]).exists(), f"{named(page)} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_each_test_that_is_named_exists(page):
    for path, function in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", page.read_text()):
        assert (ROOT / path).is_file(), f"{named(page)} names {path}"
        functions = {each.name for each in ast.walk(ast.parse((ROOT / path).read_text())) if hasattr(each, "name")}
        assert not function or function in functions, f"{named(page)} names {path}::{function}"


def test_each_threat_has_its_test():
    rows = re.findall(r"^\| (?!threat|---)(.+) \|$", (DOCS / "security.md").read_text(), re.MULTILINE)
    assert len(rows) > 20
    for row in rows:
        assert re.search(r"\| `tests/[\w/]+\.py::test_\w+`$", row), row


@pytest.mark.parametrize("page", RUNBOOKS, ids=named)
def test_a_runbook_says_when_do_verify_and_what_if_not(page):
    parts = re.findall(r"^## (.+)$", page.read_text(), re.MULTILINE)
    assert parts == ["When", "Do", "Verify", "If it does not work"], page.name


def test_the_readme_leads_to_every_runbook():
    readme = (ROOT / "README.md").read_text()
    assert [page.name for page in RUNBOOKS if f"docs/runbooks/{page.name})" not in readme] == []


def test_each_alert_leads_to_a_page_that_knows_it():
    """Who is woken by it searches for its name."""
    for rule in (
        rule for group in yaml.safe_load((DOCS / "alerts.yml").read_text())["groups"] for rule in group["rules"]
    ):
        pages = re.findall(r"docs/[\w/-]+\.md", rule["annotations"]["action"])
        assert len(pages) == 1, rule["alert"]
        assert f"`{rule['alert']}`" in (ROOT / pages[0]).read_text(), (rule["alert"], pages[0])


def test_each_signal_for_people_is_in_a_runbook():
    text = "".join(page.read_text() for page in RUNBOOKS)
    # Its page is that of the receivers.
    told = set(names_for(PEOPLE)) - {"signals_failing"}
    assert len(told) > 15
    assert [name for name in sorted(told) if f"`{name}`" not in text] == []
