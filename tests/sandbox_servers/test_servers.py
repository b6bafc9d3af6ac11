"""The starters that `make run` and the tests share, on the real programs."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pymongo
import redis

from billing_service.sandbox import servers
from billing_service.sandbox.dev_child import LAUNCH

PARENT = """
import sys, time
from pathlib import Path
from billing_service.sandbox import servers
folder = Path(sys.argv[1])
with servers.mongod(folder) as mongod, servers.redis(folder) as redis, servers.stripe_sandbox(folder) as stripe:
    print(mongod.pid, redis.pid, stripe.pid, flush=True)
    time.sleep(120)
"""


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_mongod_has_transactions_and_a_fast_ttl_monitor(tmp_path):
    with servers.mongod(tmp_path, ttl_seconds=7) as server:
        assert server.child.is_running
        with pymongo.MongoClient(server.url) as client, client.start_session() as session:
            assert client.admin.command({"getParameter": 1, "ttlMonitorSleepSecs": 1})["ttlMonitorSleepSecs"] == 7
            with session.start_transaction():
                client.billing.things.insert_one({"_id": 1}, session=session)
            assert client.billing.things.count_documents({}) == 1
    assert not server.child.is_running
    assert servers.is_free(server.port)


def test_redis_writes_to_disk_and_evicts_nothing(tmp_path):
    with servers.redis(tmp_path) as server:
        client = redis.Redis.from_url(server.url)
        assert client.config_get("appendonly")["appendonly"] == "yes"
        assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
    assert servers.is_free(server.port)


def test_the_stripe_sandbox_answers(tmp_path):
    with servers.stripe_sandbox(tmp_path) as server:
        assert urllib.request.urlopen(server.url + "/_control", timeout=5).status == 200
    assert servers.is_free(server.port)


def test_killed_and_started_again_it_has_its_port_and_its_data(tmp_path):
    with (
        servers.mongod(tmp_path) as mongod,
        servers.redis(tmp_path) as other,
        pymongo.MongoClient(mongod.url, w="majority", journal=True) as client,
    ):
        client.billing.things.insert_one({"_id": 1})
        redis.Redis.from_url(other.url).set("key", "value")
        time.sleep(1.1)  # Redis writes to disk each second
        for each in (mongod, other):
            pid = each.pid
            each.kill()
            assert not is_running(pid)
            each.start()
            assert each.pid != pid
        assert client.billing.things.find_one() == {"_id": 1}
        assert redis.Redis.from_url(other.url).get("key") == b"value"


def test_a_replica_set_moves_to_another_port(tmp_path):
    first = servers.mongod_child(tmp_path / "db", old := servers.free_port(), tmp_path / "first.log")
    first.start()
    try:
        first.wait_ready()
        with pymongo.MongoClient(servers.mongodb_uri(old), w="majority") as client:
            client.billing.things.insert_one({"_id": 1})
    finally:
        first.stop()
    second = servers.mongod_child(tmp_path / "db", new := servers.free_port(), tmp_path / "second.log")
    assert new != old
    second.start()
    try:
        second.wait_ready()
        with pymongo.MongoClient(servers.mongodb_uri(new), w="majority") as client:
            assert client.billing.things.find_one() == {"_id": 1}
            client.billing.things.insert_one({"_id": 2})
    finally:
        second.stop()


def test_they_die_with_a_parent_that_is_killed(tmp_path):
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    with parent.stdout:
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 3
        assert all(is_running(pid) for pid in pids)
        parent.kill()
        parent.wait()
    deadline = time.monotonic() + 5
    while any(is_running(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    left = [pid for pid in pids if is_running(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left


def test_a_program_whose_parent_is_already_gone_never_runs(tmp_path):
    someone_else = str(os.getppid())
    command = [sys.executable, "-I", "-S", str(LAUNCH), someone_else, "touch", str(tmp_path / "it ran")]
    assert subprocess.run(command, check=False).returncode == 1
    assert not (tmp_path / "it ran").exists()


def test_a_program_starts_with_fresh_signals(tmp_path):
    command = [sys.executable, "-I", "-S", str(LAUNCH), str(os.getpid()), "cat", "/proc/self/status"]
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT])
    try:
        status = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    masks = dict(line.split(":\t") for line in status.splitlines() if line.startswith("Sig"))
    assert int(masks["SigBlk"], 16) == 0
    assert not int(masks["SigIgn"], 16) & (1 << (signal.SIGINT - 1) | 1 << (signal.SIGTERM - 1))


WITHOUT_WHEELS = """
import sys
from billing_service.sandbox import servers
sys.path = []  # what is installed is not found any more
for find in (servers.find_mongod, servers.find_redis):
    try:
        find()
    except servers.CannotStart as trouble:
        print(trouble)
"""


def test_a_missing_server_is_said_in_a_sentence(tmp_path):
    command = [sys.executable, "-c", WITHOUT_WHEELS]
    said = subprocess.run(command, check=True, capture_output=True, text=True, env={"PATH": str(tmp_path)}).stdout
    mongod, redis = said.splitlines()
    assert "install mongod, or set MONGODB_URI" in mongod
    assert "install redis-server, or set REDIS_URL" in redis


def test_the_server_on_path_comes_first(monkeypatch, tmp_path):
    for name in ("mongod", "valkey-server"):
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert servers.find_mongod() == tmp_path / "mongod"
    assert servers.find_redis() == tmp_path / "valkey-server"
