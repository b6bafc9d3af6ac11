"""However it ends, nothing that it started is left, and what was stored is there at the next start."""

import os
import signal
import subprocess

import pymongo
import pytest
import redis
import rq


def start_a_long_job(dev):
    """Keep the worker busy with a process of its own, in a process group of its own."""
    queue = rq.Queue("batch", connection=redis.Redis.from_url(dev.ready["redisUrl"]))
    before = dev.processes()
    queue.enqueue(subprocess.call, ["sleep", "120"], start_new_session=True)
    dev.wait_for(lambda: dev.processes() - before, 20, "the job's process")


@pytest.mark.parametrize("end_of", ["Ctrl-C", "the terminal's end"])
def test_a_terminal_stops_everything(start, end_of):
    dev = start(terminal=True).wait_ready()
    if end_of == "Ctrl-C":
        os.write(dev.terminal, b"\x03")
    else:
        dev.close_terminal()
    assert dev.exit_code() == 0
    assert dev.processes() == set()
    assert not dev.ready_file.exists()


def test_a_signal_during_the_start_stops_everything(start):
    dev = start()
    dev.wait_for(lambda: "MongoDB is up" in dev.output, 30, "MongoDB")
    assert len(dev.processes()) >= 4
    dev.process.send_signal(signal.SIGINT)
    assert dev.exit_code() == 0
    assert dev.processes() == set()
    assert not dev.ready_file.exists()


def test_kill_9_of_the_process_in_front_leaves_none_and_a_new_start_waits_for_that(start):
    first = start().wait_ready()
    start_a_long_job(first)
    of_the_first = first.processes()
    first.process.kill()
    first.process.wait()
    second = start(port=first.port).wait_ready()
    assert not of_the_first & second.all_processes()
    assert not first.ready_file.exists()
    assert set(second.pids.values()) <= second.processes()


def test_kill_9_of_the_supervisor_leaves_none(start):
    dev = start().wait_ready()
    start_a_long_job(dev)
    os.kill(dev.supervisor(), signal.SIGKILL)
    assert dev.exit_code(20) == 1
    assert "SIGKILL" in dev.output
    assert dev.processes() == set()
    assert not dev.ready_file.exists()


def test_kill_9_of_both_at_once_leaves_none(start):
    dev = start().wait_ready()
    supervisor = dev.supervisor()
    dev.process.send_signal(signal.SIGSTOP)
    os.kill(supervisor, signal.SIGKILL)
    dev.process.kill()
    dev.assert_none_left(15)


def test_five_deaths_in_a_minute_stop_everything(start):
    dev = start().wait_ready()
    for _ in range(4):
        old = dev.pids["redis"]
        os.kill(old, signal.SIGKILL)
        dev.wait_new_pid("redis", old)
    os.kill(dev.pids["redis"], signal.SIGKILL)
    assert dev.exit_code() == 1
    assert "Redis was killed by SIGKILL, for the fifth time within a minute." in dev.output
    assert dev.processes() == set()
    assert not dev.ready_file.exists()


def test_the_data_survive_and_the_second_start_takes_them_up(start):
    first = start().wait_ready()
    ready, port = first.ready, first.port
    with pymongo.MongoClient(ready["mongodbUri"], w="majority") as client:
        client.dev_test.things.insert_one({"_id": "kept"})
    redis.Redis.from_url(ready["redisUrl"]).set("dev_test", "kept")
    first.process.send_signal(signal.SIGTERM)
    assert first.exit_code() == 0
    assert first.processes() == set()
    assert not first.ready_file.exists()

    second = start(port=port).wait_ready()
    assert {**second.ready, "pids": None, "adminToken": None} == {**ready, "pids": None, "adminToken": None}
    with pymongo.MongoClient(second.ready["mongodbUri"]) as client:
        assert client.dev_test.things.find_one() == {"_id": "kept"}
    assert redis.Redis.from_url(second.ready["redisUrl"]).get("dev_test") == b"kept"
