"""The doctor's judgements on values, and that it knows all that the service asks of Stripe."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from billing_service.doctor import PROBLEMS
from billing_service.doctor.at_stripe import _compare_clocks
from billing_service.doctor.examination import BLOCKING
from billing_service.doctor.stores import _numbers, _version
from billing_service.stripe_gateway import RIGHTS

GATEWAY = Path(__file__).parents[2] / "billing_service" / "stripe_gateway"
NOW = datetime(2026, 11, 25, 12, 0, 0, 500_000, UTC)


def test_every_call_of_the_gateway_belongs_to_a_right():
    text = (GATEWAY / "client.py").read_text() + (GATEWAY / "inspection.py").read_text()
    reads = set(re.findall(r'self\._(?:get|all)\(\s*"(\w+)"', text)) | set(re.findall(r'gateway\._get\("(\w+)"', text))
    changes = set(re.findall(r'Call\(\s*"(\w+)"', text))
    assert len(reads) > 20
    assert reads - {"try_right"} == {call for right in RIGHTS for call in right.reads}
    assert changes == {call for right in RIGHTS for call in right.changes}


def test_every_problem_says_why_and_what_to_do():
    for code, problem in PROBLEMS.items():
        assert re.fullmatch(r"[a-z_]+", code)
        assert problem.severity in ("error", "warning")
        for words in (problem.why, problem.do):
            assert words[0].isupper(), code
            assert words.endswith((".", ").")), code
    assert set(PROBLEMS) >= BLOCKING


@pytest.mark.parametrize(
    ("seconds", "code"),
    [
        (0, "ok"),
        (9, "ok"),
        (-8, "ok"),
        (12, "clock_skewed"),
        (-12, "clock_skewed"),
        (62, "clock_wrong"),
        (-75, "clock_wrong"),
    ],
)
def test_the_clock_is_judged_by_what_is_certain(seconds, code):
    date = (NOW - timedelta(seconds=seconds)).replace(microsecond=0)
    assert _compare_clocks(NOW, date, NOW + timedelta(milliseconds=80)).code == code


def test_an_answer_that_took_long_is_no_skew():
    assert (
        _compare_clocks(NOW, (NOW + timedelta(seconds=20)).replace(microsecond=0), NOW + timedelta(seconds=25)).code
        == "ok"
    )


@pytest.mark.parametrize(
    ("version", "oldest", "code"),
    [((5, 0, 31), (6, 0), "old"), ((6, 0, 0), (6, 0), "ok"), ((10, 1), (6, 0), "ok"), ((4, 4), (5, 0), "old")],
)
def test_versions_are_compared_as_numbers(version, oldest, code):
    assert _version("X", "old", version, oldest).code == code
    assert _numbers("7.2.4") == (7, 2, 4)
    assert _numbers("8.0.0-rc1") == (8, 0)
