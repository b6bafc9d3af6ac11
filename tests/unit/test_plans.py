"""The plan file: read strictly, resolved without guessing."""

from dataclasses import dataclass, field

import pytest

from billing_service.plans import PlanFileError, Plans
from billing_service.settings import SAMPLE_PLANS

GOOD = """
[[plans]]
id = "free"
name = "Free"
weekly_quota = 10
prices = []

[[plans]]
id = "pro"
name = "Pro"
weekly_quota = 500_000
prices = ["price_a", "price_b"]

[[plans]]
id = "max"
name = "Max"
weekly_quota = 900_000
prices = ["price_c"]
"""


@dataclass
class Item:
    price_id: str | None
    price_metadata: dict[str, str] = field(default_factory=dict)


@pytest.fixture
def read(tmp_path):
    def make(text: str = GOOD) -> Plans:
        path = tmp_path / "plans.toml"
        path.write_text(text)
        return Plans.load(path)

    return make


def test_the_sample_is_good():
    plans = Plans.load(SAMPLE_PLANS)
    assert plans.free == "free"
    assert plans.of_price("price_pro_yearly").id == "pro"
    assert plans.packs[0].units == 100_000


def test_rank_is_the_order(read):
    plans = read()
    assert [plans.rank(name) for name in ("free", "pro", "max", "gone")] == [0, 1, 2, -1]


@pytest.mark.parametrize(
    ("items", "plan", "price", "ambiguous"),
    [
        ([Item("price_a")], "pro", "price_a", False),
        ([Item("price_x", {"planId": "max"})], "max", "price_x", False),
        ([Item("price_a", {"planId": "max"})], "pro", "price_a", False),
        ([Item("price_x", {"planId": "unknown"})], None, "price_x", False),
        ([Item("price_x"), Item("price_c")], "max", "price_c", False),
        ([Item("price_c"), Item("price_a")], "max", "price_c", True),
        ([Item(None)], None, None, False),
        ([], None, None, False),
    ],
)
def test_prices_are_resolved_never_guessed(read, items, plan, price, ambiguous):
    resolution = read().resolve(items)
    assert (resolution.plan, resolution.price_id, resolution.ambiguous) == (plan, price, ambiguous)


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("", 1, "at least one plan"),
        ("[[plans]]\nid = \nname = 1", 2, ""),
        (GOOD.replace('"price_c"', '"price_a"'), 18, "price_a"),
        (GOOD.replace('id = "max"', 'id = "pro"'), 14, "'pro'"),
        (GOOD + "\n[[plan]]\nid = 'x'", 20, "plan"),
        (GOOD.replace("weekly_quota = 900_000", "weekly_qouta = 1"), 14, "weekly_qouta"),
        (GOOD.replace("weekly_quota = 900_000", "weekly_quota = -1"), 14, "negative"),
        (GOOD.replace("weekly_quota = 900_000", 'weekly_quota = "many"'), 14, "weekly_quota"),
        (GOOD.replace("weekly_quota = 900_000", "weekly_quota = true"), 14, "weekly_quota"),
        (GOOD.replace('prices = ["price_c"]', "prices = [1]"), 14, "prices"),
        (GOOD + '\n[[packs]]\nid = "p"\nunits = 1', 20, "price"),
    ],
)
def test_a_bad_file_is_refused_naming_the_line(read, text, line, word):
    with pytest.raises(PlanFileError) as refusal:
        read(text)
    assert f"line {line}" in str(refusal.value)
    assert word in str(refusal.value)


@pytest.mark.parametrize(
    "text",
    [
        "plans = 3",
        'plans = ["pro"]',
        "[plans]\nid = 'free'",
        GOOD.replace('["price_c"]', "3"),
        GOOD.replace('["price_c"]', "[3]"),
        GOOD + "packs = 'none'",
        GOOD.replace('"free"', "[1]", 1),
    ],
)
def test_whatever_it_holds_is_refused_in_words(read, text):
    with pytest.raises(PlanFileError, match="line"):
        read(text)


def test_a_file_that_cannot_be_read_is_refused_in_words(tmp_path):
    with pytest.raises(PlanFileError, match="directory"):
        Plans.load(tmp_path)
