"""The documents that follow from the code are those that would be written now."""

import importlib.util
from pathlib import Path

import pytest

from billing_service.doctor import PROBLEMS
from billing_service.settings import SECRETS, Settings

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def generate():
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_configuration_reference_is_current(generate):
    text = (DOCS / "configuration.md").read_text()
    assert text == generate.configuration(), "run make docs"
    for name in Settings.__dataclass_fields__:
        assert f"| `{name.upper()}` | " in text
    assert text.count("; secret |") == len(SECRETS)


def test_every_setting_says_what_it_is(generate):
    lines = [line for line in generate.configuration().splitlines() if line.startswith("| `")]
    assert len(lines) == len(Settings.__dataclass_fields__)
    assert all(len(line.rstrip(" |").rpartition("|")[2]) > 15 for line in lines)


def test_the_doctors_reference_is_current(generate):
    text = (DOCS / "doctor.md").read_text()
    assert text == generate.doctor(), "run make docs"
    assert all(f"| `{code}` | " in text for code in PROBLEMS)
