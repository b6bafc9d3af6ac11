"""Waking: cheap, never in the way, never lost for long."""

import time

import pytest

from billing_service.jobs import wakeups


def queued(runtime, queue="webhooks"):
    return runtime.redis.client().llen(f"rq:queue:{queue}")


def test_one_wakeup_is_enough_until_it_begins(app, runtime):
    assert [wakeups.wake() for _ in range(3)] == [True] * 3
    assert queued(runtime) == 1
    wakeups.begun()
    assert wakeups.wake() is True
    assert queued(runtime) == 2


def test_a_wakeup_that_was_lost_does_not_silence_the_next_for_long(app, runtime):
    wakeups.wake()
    assert 0 < runtime.redis.client().ttl(wakeups.PENDING) <= 5


def test_a_long_backlog_yields_to_the_other_queues(app, runtime):
    wakeups.wake_behind_others()
    assert (queued(runtime), queued(runtime, "batch")) == (0, 1)
    wakeups.wake()
    assert queued(runtime) == 0


@pytest.mark.parametrize("how", ["gone", "hung"])
def test_redis_away_costs_little_and_only_once(app, runtime, servers, how):
    import os
    import signal

    if how == "gone":
        servers.redis.kill()
    else:
        os.kill(servers.redis.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        assert wakeups.wake() is False
        assert time.monotonic() - began < 0.35
        began = time.monotonic()
        assert [wakeups.wake() for _ in range(100)] == [False] * 100
        assert time.monotonic() - began < 0.05
        assert wakeups.others_wait() is False
    finally:
        if how == "gone":
            servers.redis.start()
        else:
            os.kill(servers.redis.pid, signal.SIGCONT)
    wakeups.silence.end()
    assert wakeups.wake() is True


def test_later_wakeups_share_an_entry_per_second(app, runtime):
    for _ in range(3):
        wakeups.wake_in(30.0)
    held = runtime.redis.client().zrange("rq:scheduler:scheduled_jobs", 0, -1, withscores=True)
    assert 1 <= len(held) <= 2
    assert all(29 <= at - time.time() <= 32 for _, at in held)


def test_others_wait_only_on_the_queues_before_the_batches(app, runtime):
    assert wakeups.others_wait() is False
    wakeups.wake_reconciliation()
    assert wakeups.others_wait() is False
    wakeups.wake_outbox()
    assert wakeups.others_wait() is True
    runtime.redis.client().flushall()
    wakeups.wake()
    assert wakeups.others_wait() is True
