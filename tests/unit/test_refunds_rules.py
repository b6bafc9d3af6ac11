"""Rules on values: when a refund that nobody knows of is looked after, and what its states mean."""

from datetime import timedelta

import pytest

from billing_service.documents.refund_request import STATES
from billing_service.refunds.asking import ASKING
from billing_service.refunds.settling import RANK, Seen
from billing_service.refunds.timing import PACE, pause_after


@pytest.mark.parametrize(
    ("age", "pause"),
    [
        ({"seconds": 1}, {"minutes": 1}),
        ({"minutes": 59}, {"minutes": 1}),
        ({"minutes": 61}, {"minutes": 10}),
        ({"hours": 20}, {"hours": 1}),
        ({"days": 4}, {"days": 1}),
    ],
)
def test_the_pause_grows_with_the_age(age, pause):
    assert pause_after(timedelta(**age)) == timedelta(**pause)


def test_looking_ends_some_day():
    assert pause_after(timedelta(days=31)) is None


def test_asking_ends_well_before_stripe_forgets_the_key():
    assert timedelta(hours=20) == ASKING
    assert ASKING in [until for until, _ in PACE]


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("pending", "accepted"),
        ("requires_action", "accepted"),
        (None, "accepted"),
        ("something_new", "accepted"),
        ("succeeded", "succeeded"),
        ("failed", "failed"),
        ("canceled", "failed"),
    ],
)
def test_each_status_of_stripes_has_a_state(status, state):
    assert Seen("request-1", "re_1", status).state == state


def test_every_state_has_a_rank_and_only_failing_follows_success():
    assert set(RANK) == set(STATES)
    assert RANK["accepted"] < RANK["succeeded"] < RANK["failed"]
    assert {RANK[each] for each in ("pending", "unknown", "rejected")} == {0}
