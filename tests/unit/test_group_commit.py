"""What arrives while another write is under way is written together, and each gets its own end."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from billing_service.group_commit import GroupCommit

PATIENCE = 10


class Store:
    """Remembers the batches; the first write goes on only when it is let."""

    def __init__(self, error=None):
        self.batches = []
        self.begun, self.go = threading.Event(), threading.Event()
        self.error = error

    def write(self, rows):
        self.batches.append(list(rows))
        if len(self.batches) == 1:
            self.begun.set()
            assert self.go.wait(PATIENCE)
        elif self.error:
            raise self.error
        return [row * 10 for row in rows]


def gathered(store):
    """One row under way, four that came meanwhile."""
    group = GroupCommit(store.write)
    with ThreadPoolExecutor(5) as pool:
        futures = [pool.submit(group.put, 1)]
        assert store.begun.wait(PATIENCE)
        futures += [pool.submit(group.put, row) for row in (2, 3, 4, 5)]
        while len(group._waiting) < 4:
            pass
        store.go.set()
        return group, futures


def test_alone_nobody_waits():
    store = Store()
    store.go.set()
    group = GroupCommit(store.write)
    assert [group.put(row) for row in (1, 2)] == [10, 20]
    assert store.batches == [[1], [2]]


def test_what_came_meanwhile_is_written_together():
    store = Store()
    _, futures = gathered(store)
    assert [each.result(PATIENCE) for each in futures] == [10, 20, 30, 40, 50]
    assert [len(each) for each in store.batches] == [1, 4]


def test_a_failure_is_told_to_all_that_it_concerns_and_nobody_else():
    store = Store(error=ConnectionError("gone"))
    group, futures = gathered(store)
    assert futures[0].result(PATIENCE) == 10
    for each in futures[1:]:
        with pytest.raises(ConnectionError):
            each.result(PATIENCE)
    store.error = None
    assert group.put(6) == 60


def test_under_load_each_gets_its_own_end():
    group = GroupCommit(lambda rows: [row * 10 for row in rows])
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(group.put, range(5_000))) == [row * 10 for row in range(5_000)]


def test_whoever_is_stopped_while_writing_stops_nobody_else():
    class Stopped(Store):
        def write(self, rows):
            super().write(rows)
            raise SystemExit

    store = Stopped()
    group = GroupCommit(store.write)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(group.put, 1)
        assert store.begun.wait(PATIENCE)
        second = pool.submit(group.put, 2)
        while not group._waiting:
            pass
        store.go.set()
        with pytest.raises(SystemExit):
            first.result(PATIENCE)
        with pytest.raises(SystemExit):  # it wrote for itself, and was stopped itself
            second.result(PATIENCE)
    assert not group._busy
