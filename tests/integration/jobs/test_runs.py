"""Slots: claimed once, run at most three times, caught up once."""

import threading
from datetime import UTC, datetime, timedelta

import pytest

from billing_service.documents import JobRun, ServiceState, database_now
from billing_service.jobs import runs
from billing_service.jobs.queues import enqueue_run, job
from billing_service.jobs.schedule import SCHEDULE, Row
from billing_service.jobs.sweep import sweep
from billing_service.jobs.tick import catch_up, start_slot, tick

ROW = Row("sweep", "0 3 * * 0", "billing_service.jobs.sweep.sweep")
SLOT = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


@job("batch", timeout=30)
def counted(sum_of=()):
    """A job of the tests."""
    if sum_of == "fail":
        raise ValueError("no sum")
    return {"sum": sum(sum_of)}


@job("batch", timeout=30, in_parts=True)
def divided(stop_at=3, pause=None, *, cursor):
    """A job of the tests that is done in parts."""
    place = cursor.get("place", 0) + 1
    if stop_at == "fail" and place == 2:
        raise ValueError("no second part")
    if place == (3 if stop_at == "fail" else stop_at):
        return runs.Part({"counted": 1, "last": str(place)})
    return runs.Part({"counted": 1, "last": str(place)}, {"place": place}, pause)


def run_of(job_name="counted", slot="20261122T0300"):
    return JobRun.objects(job=job_name, slot=slot).first()


def queued(runtime, queue):
    return [each.decode() for each in runtime.redis.client().lrange(f"rq:queue:{queue}", 0, -1)]


def test_a_slot_is_claimed_once_by_many(app):
    won = []
    threads = [threading.Thread(target=lambda: won.append(runs.claim("counted", "20261122T0300"))) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(won) == [False] * 7 + [True]


def test_a_claimed_slot_runs_once(app):
    runs.claim("counted", "20261122T0300")
    assert counted((1, 2), slot="20261122T0300", attempt=1) == {"sum": 3}
    assert counted((1, 2), slot="20261122T0300", attempt=1) is None
    run = run_of()
    assert (run.state, run.summary) == ("succeeded", {"sum": 3})
    assert run.started_at <= run.finished_at


def test_without_a_slot_it_just_runs(app):
    assert counted((1, 2)) == {"sum": 3}
    assert JobRun.objects().first() is None


def test_a_failed_run_is_taken_up_three_times_and_given_up(app):
    runs.claim("counted", "20261122T0300")
    for attempt in (1, 2, 3):
        with pytest.raises(ValueError, match="no sum"):
            counted("fail", slot="20261122T0300", attempt=attempt)
        assert (run_of().state, run_of().error) == ("failed", "ValueError: no sum")
        taken = runs.take_up_lost(frozenset({"counted"}))
        assert [row.attempt for row in taken] == ([attempt + 1] if attempt < 3 else [])
    assert run_of().state == "given_up"


def test_an_attempt_of_long_ago_does_not_run(app):
    runs.claim("counted", "20261122T0300")
    JobRun.objects(job="counted").update_one(set__lease_until=database_now() - timedelta(seconds=1))
    runs.take_up_lost(frozenset({"counted"}))
    assert counted((1,), slot="20261122T0300", attempt=1) is None
    assert counted((1,), slot="20261122T0300", attempt=2) == {"sum": 1}


def test_a_claim_has_two_minutes_to_start(app):
    runs.claim("counted", "20261122T0300")
    assert runs.take_up_lost(frozenset({"counted"})) == []
    assert 110 < (run_of().lease_until - database_now()).total_seconds() <= 120


def test_a_lost_run_is_taken_up_once_by_many(app):
    runs.claim("counted", "20261122T0300")
    JobRun.objects(job="counted").update_one(set__lease_until=database_now() - timedelta(seconds=1))
    taken = []
    threads = [
        threading.Thread(target=lambda: taken.extend(runs.take_up_lost(frozenset({"counted"})))) for _ in range(6)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert [row.attempt for row in taken] == [2]


def test_starting_a_slot_enqueues_the_job_with_its_attempt(app, runtime):
    assert start_slot(ROW, SLOT) is True
    assert start_slot(ROW, SLOT) is False
    assert queued(runtime, "admin") == ["sweep-20261122T0300-1"]


def test_a_tick_claims_the_slot_of_its_minute(app, runtime):
    assert tick("sweep") in (True, False)
    [run] = JobRun.objects(job="sweep")
    assert run.slot == runs.slot_name(SCHEDULE[0].latest_slot(run.claimed_at))
    assert tick("no_such_job") is False


def test_a_missed_slot_is_caught_up_once(app, runtime):
    ServiceState(name="scheduled_since:sweep", value="x", at=SLOT - timedelta(days=30)).save()
    assert catch_up((ROW,), NOW) == ["sweep"]
    assert catch_up((ROW,), NOW) == []
    assert queued(runtime, "admin") == ["sweep-20261122T0300-1"]


def test_what_was_never_scheduled_was_not_missed(app, runtime):
    assert catch_up((ROW,), NOW) == []
    assert catch_up((ROW,), NOW + timedelta(days=7)) == ["sweep"]


def test_the_sweep_takes_up_what_the_calendar_owes(app, runtime):
    runs.claim("sweep", "20261122T0300")
    JobRun.objects(job="sweep").update_one(set__lease_until=database_now() - timedelta(seconds=1))
    assert sweep()["runs_taken_up"] == 0
    # The next sweep does what a lost one left: it is not repeated.
    assert run_of("sweep").state == "given_up"


def test_the_sweep_survives_a_part_that_fails(app, runtime, servers):
    servers.redis.kill()
    try:
        found = sweep()
    finally:
        servers.redis.start()
    assert found["queues_cleaned"] == "ConnectionError"
    assert found["verified"] == 0


def test_job_ids_name_slot_and_attempt(app, runtime):
    assert enqueue_run(counted, "20261122T0300", 2) == "counted-20261122T0300-2"
    assert queued(runtime, "batch") == ["counted-20261122T0300-2"]


def test_a_long_run_goes_on_in_parts(app, runtime):
    runs.claim("divided", "20261122T0300")
    for part in range(3):
        assert divided(slot="20261122T0300", attempt=1, part=part) == {"counted": 1, "last": str(part + 1)}
        assert divided(slot="20261122T0300", attempt=1, part=part) is None
    assert queued(runtime, "batch") == ["divided-20261122T0300-1-1", "divided-20261122T0300-1-2"]
    run = run_of("divided")
    assert (run.state, run.part, run.summary) == ("succeeded", 2, {"counted": 3, "last": "3"})


def test_without_a_slot_all_parts_run_at_once(app, runtime):
    assert divided(4) == {"counted": 4, "last": "4"}
    assert queued(runtime, "batch") == []


def test_a_part_that_fails_is_taken_up_from_its_cursor(app, runtime):
    runs.claim("divided", "20261122T0300")
    divided("fail", slot="20261122T0300", attempt=1)
    with pytest.raises(ValueError, match="no second part"):
        divided("fail", slot="20261122T0300", attempt=1, part=1)
    [taken] = runs.take_up_lost(frozenset({"divided"}))
    assert (taken.attempt, taken.part, taken.cursor) == (2, 1, {"place": 1})
    assert divided(2, slot="20261122T0300", attempt=2, part=1) == {"counted": 1, "last": "2"}
    assert run_of("divided").summary == {"counted": 2, "last": "2"}


def test_the_attempts_are_those_of_a_part(app):
    runs.claim("divided", "20261122T0300")
    for part in range(5):
        JobRun.objects(job="divided").update_one(set__lease_until=database_now() - timedelta(seconds=1))
        [taken] = runs.take_up_lost(frozenset({"divided"}))
        assert (taken.attempt, taken.part) == (2, part)
        divided(99, slot="20261122T0300", attempt=2, part=part)
    assert run_of("divided").state == "claimed"


def test_a_part_with_a_pause_is_left_to_the_sweep(app, runtime):
    runs.claim("divided", "20261122T0300")
    divided(3, timedelta(minutes=5), slot="20261122T0300", attempt=1)
    assert queued(runtime, "batch") == []
    assert 290 < (run_of("divided").lease_until - database_now()).total_seconds() <= 300
    assert runs.take_up_lost(frozenset({"divided"})) == []


def test_a_run_of_an_earlier_version_has_no_part(app):
    runs.claim("counted", "20261122T0300")
    JobRun._get_collection().update_one({"job": "counted"}, {"$unset": {"part": 1}})
    assert counted((1, 2), slot="20261122T0300", attempt=1) == {"sum": 3}
    assert run_of().state == "succeeded"
