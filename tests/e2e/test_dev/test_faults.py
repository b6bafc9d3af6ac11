"""What is missing, taken, broken or given: one clear sentence, or the given part used."""

import os
import signal
import socket
import socketserver
import threading
from pathlib import Path

import pymongo
import pytest
import redis

from billing_service.sandbox import servers


def assert_refused(dev, *words):
    assert dev.exit_code() == 1
    for each in words:
        assert each in dev.output
    assert "Traceback" not in dev.output
    assert not dev.ready_file.exists()
    assert dev.processes() == set()


def test_a_taken_port_is_named(start):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert_refused(start(port=port), f"Port {port} is taken", "--port")


def test_a_taken_mongod_port_moves_the_replica_set(start):
    first = start().wait_ready()
    ready = first.ready
    with pymongo.MongoClient(ready["mongodbUri"], w="majority") as client:
        client.dev_test.things.insert_one({"_id": "kept"})
        port = client.address[1]
    first.process.terminate()
    assert first.exit_code() == 0
    # One that hangs up at once: MongoDB, which looks for itself there, gives a mute one half a minute.
    with socketserver.ThreadingTCPServer((servers.HOST, port), socketserver.BaseRequestHandler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        second = start().wait_ready()
        assert second.ready["mongodbUri"] != ready["mongodbUri"]
        with pymongo.MongoClient(second.ready["mongodbUri"], w="majority") as client:
            assert client.dev_test.things.find_one() == {"_id": "kept"}
            client.dev_test.things.insert_one({"_id": "written"})
        other.shutdown()


def test_a_missing_libcurl_is_named(start, tmp_path):
    # A real mongod that asks the real loader for a libcurl which no machine has.
    program = servers.find_mongod().read_bytes().replace(b"libcurl.so.4\0", b"libcurl.so.X\0")
    assert b"libcurl.so.X" in program
    (tmp_path / "bin").mkdir()
    mongod = tmp_path / "bin" / "mongod"
    mongod.write_bytes(program)
    mongod.chmod(0o755)
    dev = start(env={"PATH": f"{mongod.parent}:{os.environ['PATH']}"})
    assert_refused(dev, "libcurl.so.X is missing: install libcurl4, or set MONGODB_URI")


def test_a_process_that_dies_at_once_is_named_with_its_log(start, tmp_path):
    dev = start(env={"BILLING_PLANS": str(tmp_path / "there_is_none.toml")})
    assert_refused(dev, "indexes ended with exit code", "there_is_none.toml")


def test_an_unusable_data_folder_is_named(start, tmp_path):
    (tmp_path / "file").write_text("")
    assert_refused(start("--data-dir", str(tmp_path / "file" / "data")), "data folder", "Not a directory")


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"MONGODB_URI": "mongodb://u:pass-word@127.0.0.1:9/billing"}, "no MongoDB answers at 127.0.0.1:9"),
        ({"REDIS_URL": "redis://u:pass-word@127.0.0.1:9/0"}, "no Redis answers at 127.0.0.1:9"),
        ({"STRIPE_SECRET_KEY": "sk_test_given"}, "STRIPE_WEBHOOK_SECRETS"),
        ({"STRIPE_API_BASE": "http://127.0.0.1:9"}, "STRIPE_SECRET_KEY is not"),
    ],
)
def test_a_given_part_that_is_not_usable_is_named(start, env, words):
    dev = start(env=env)
    assert_refused(dev, words)
    assert "pass-word" not in dev.output


def test_a_given_mongodb_without_transactions_is_refused(start, tmp_path):
    child = servers.mongod_child(tmp_path / "alone", port := servers.free_port(), tmp_path / "alone.log")
    child.argv = [each for each in child.argv if each not in ("--replSet", servers.REPLICA_SET)]
    child.is_ready = lambda: servers.is_listening(port)
    child.start()
    try:
        child.wait_ready()
        dev = start(env={"MONGODB_URI": f"mongodb://127.0.0.1:{port}/billing"})
        assert_refused(dev, "not a replica set")
    finally:
        child.kill()


def test_given_servers_are_used_and_left_alone(start, tmp_path):
    with servers.mongod(tmp_path) as mongodb, servers.redis(tmp_path) as given_redis:
        dev = start(env={"MONGODB_URI": mongodb.url, "REDIS_URL": given_redis.url}).wait_ready(fewest=8)
        assert dev.ready["mongodbUri"] == mongodb.url
        assert dev.ready["redisUrl"] == given_redis.url
        assert dev.ready["pids"]["mongod"] is None
        assert dev.ready["pids"]["redis"] is None
        assert set(dev.pids) == {"web", "worker", "scheduler", "stripe"}
        with pymongo.MongoClient(mongodb.url) as client:
            assert client.get_default_database().list_collection_names()
        assert redis.Redis.from_url(given_redis.url).smembers("rq:workers")
        dev.process.send_signal(signal.SIGTERM)
        assert dev.exit_code() == 0
        assert mongodb.child.is_running
        assert given_redis.child.is_running


def test_a_given_stripe_is_used_and_not_written_to(start, tmp_path):
    with servers.stripe_sandbox(tmp_path) as stripe:
        given = {
            "STRIPE_API_BASE": stripe.url,
            "STRIPE_SECRET_KEY": "sk_test_sandbox",
            "STRIPE_WEBHOOK_SECRETS": "whsec_given_by_the_test_itself",
        }
        dev = start(env=given).wait_ready(fewest=9)
        assert dev.ready["pids"]["stripe"] is None
        assert dev.ready["stripeApiBase"] == stripe.url
        assert dev.ready["webhookSecret"] == given["STRIPE_WEBHOOK_SECRETS"]
        assert not list(Path(dev.data_dir).glob("stripe*"))
        assert "no demo data" in dev.output
