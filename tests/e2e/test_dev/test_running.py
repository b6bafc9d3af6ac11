"""While it runs: what it says of itself, that it is the only one, and that what dies comes back."""

import os
import signal
import stat
import subprocess
import sys
import urllib.request

import pymongo
import redis

PARTS = {"web", "worker", "scheduler", "mongod", "redis", "stripe"}


def test_the_ready_file_describes_what_runs(running):
    ready = running.ready
    assert set(ready) == {
        *("url", "consoleUrl", "adminToken", "mongodbUri", "redisUrl"),
        *("stripeApiBase", "stripeSecretKey", "webhookSecret", "pids"),
    }
    assert set(running.pids) == PARTS
    assert set(running.pids.values()) <= running.processes()
    assert ready["url"] == f"http://127.0.0.1:{running.port}"
    assert ready["consoleUrl"] == ready["url"] + "/console"
    assert ready["stripeSecretKey"].startswith("sk_test_")
    assert ready["webhookSecret"].startswith("whsec_")


def test_what_the_ready_file_names_answers(running):
    ready = running.ready
    assert urllib.request.urlopen(ready["url"] + "/healthz", timeout=5).status == 200
    assert urllib.request.urlopen(ready["stripeApiBase"] + "/_control", timeout=5).status == 200
    assert redis.Redis.from_url(ready["redisUrl"]).ping()
    with pymongo.MongoClient(ready["mongodbUri"]) as client:
        assert client.admin.command("hello")["setName"] == "rs0"


def test_the_ready_file_is_its_owners_only(running):
    assert stat.S_IMODE(running.ready_file.stat().st_mode) == 0o600
    assert stat.S_IMODE((running.data_dir / "dev.json").stat().st_mode) == 0o600


def test_it_prints_where_to_go_and_how_to_stop(running):
    for words in (running.ready["consoleUrl"], running.ready["adminToken"], "/api/docs", "Ctrl-C", "logs"):
        assert words in running.output


def test_a_second_start_is_refused_and_harms_nothing(running, start):
    pids = running.pids
    second = start("--data-dir", str(running.data_dir))
    assert second.exit_code(20) == 1
    assert f"pid {running.process.pid}" in second.output
    assert running.ready["url"] in second.output
    assert running.pids == pids
    assert set(pids.values()) <= running.processes()


def test_a_killed_worker_comes_back(running):
    before = running.pids
    os.kill(before["worker"], signal.SIGKILL)
    new = running.wait_new_pid("worker", before["worker"])
    assert running.pids == before | {"worker": new}
    assert new in running.processes()
    assert "worker was killed by SIGKILL" in running.output


def test_a_killed_web_comes_back_on_its_port(running):
    before = running.pids
    os.kill(before["web"], signal.SIGKILL)
    new = running.wait_new_pid("web", before["web"])
    assert running.pids == before | {"web": new}
    assert urllib.request.urlopen(running.ready["url"] + "/healthz", timeout=5).status == 200


def test_a_killed_mongod_comes_back_with_its_data_and_the_others_live_on(running):
    before = running.ready
    with pymongo.MongoClient(before["mongodbUri"], w="majority") as client:
        client.dev_test.things.insert_one({"_id": "before the kill"})
        os.kill(before["pids"]["mongod"], signal.SIGKILL)
        new = running.wait_new_pid("mongod", before["pids"]["mongod"])
        assert running.ready == before | {"pids": before["pids"] | {"mongod": new}}
        assert client.dev_test.things.find_one() == {"_id": "before the kill"}


def test_a_killed_redis_comes_back_and_the_others_live_on(running):
    before = running.ready
    os.kill(before["pids"]["redis"], signal.SIGKILL)
    new = running.wait_new_pid("redis", before["pids"]["redis"])
    assert running.ready == before | {"pids": before["pids"] | {"redis": new}}
    assert redis.Redis.from_url(before["redisUrl"]).ping()


def test_commands_work_on_it_and_the_doctor_is_content(running):
    """As its first lines say: `. .data/environment; billing-service doctor`."""
    environment = running.data_dir / "environment"
    assert stat.S_IMODE(environment.stat().st_mode) == 0o600
    assert str(environment) in running.output
    command = f". {environment}; exec {sys.executable} -m billing_service.cli doctor --all"
    clean = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    told = subprocess.run(["sh", "-c", command], env=clean, capture_output=True, text=True, timeout=60, check=False)
    assert told.returncode == 0, told.stdout + told.stderr
    assert "OK       prices: All 7" in told.stdout
