"""At most MUTATIONS_PER_MINUTE mutations of an actor, counted in Redis for all processes."""

from dataclasses import replace

import pytest
from bson import ObjectId

from billing_service import create_app
from billing_service.documents import AdminAction
from billing_service.settings import Settings

URL = "/api/admin/billing/sync/"


@pytest.fixture
def two_a_minute(app):
    """The application with room for two mutations, at the tenth second of a minute that does not pass."""
    billing = app.extensions["billing"]
    at = billing.clock().replace(second=10, microsecond=0)
    settings = replace(billing.settings, mutations_per_minute=2)
    app.extensions["billing"] = replace(billing, settings=settings, clock=lambda: at)
    yield app.extensions["billing"]
    app.extensions["billing"] = billing


def test_the_next_one_is_told_when_to_come_again(two_a_minute, client, admin):
    found = [client.post(f"{URL}{ObjectId()}", headers=admin) for _ in range(3)]
    assert [each.status_code for each in found] == [404, 404, 429]
    assert found[2].json["code"] == "too_many_requests"
    assert found[2].headers["Retry-After"] == "50"
    assert AdminAction.objects(phase="intent").count() == 2


def test_each_actor_has_room_of_their_own(two_a_minute, client, token):
    for actor in ("ada", "grace"):
        headers = token("admin", actor=actor)
        found = [client.post(f"{URL}{ObjectId()}", headers=headers).status_code for _ in range(3)]
        assert found == [404, 404, 429]


def test_reads_and_dry_runs_do_not_count(two_a_minute, client, admin):
    for _ in range(4):
        assert client.post(f"{URL}{ObjectId()}?dryRun=true", headers=admin).status_code == 404
        assert client.get("/api/admin/billing/audit", headers=admin).status_code == 200
    assert client.post(f"{URL}{ObjectId()}", headers=admin).status_code == 404


def test_all_processes_count_together(two_a_minute, environment, client, admin):
    """Two applications on the same stores, as two web processes are."""
    from mongoengine import disconnect_all

    from billing_service.documents import connect

    for _ in range(2):
        client.post(f"{URL}{ObjectId()}", headers=admin)
    other = create_app(Settings.from_env(environment))
    other.extensions["billing"] = replace(
        other.extensions["billing"], settings=two_a_minute.settings, clock=two_a_minute.clock
    )
    assert other.test_client().post(f"{URL}{ObjectId()}", headers=admin).status_code == 429
    disconnect_all()
    connect(environment["MONGODB_URI"])


def test_without_redis_nobody_is_held_up(two_a_minute, client, admin, servers):
    servers.redis.kill()
    try:
        found = [client.post(f"{URL}{ObjectId()}", headers=admin).status_code for _ in range(3)]
    finally:
        servers.redis.start()
    assert found == [404] * 3


def test_the_next_minute_begins_anew(app, two_a_minute, client, admin):
    from datetime import timedelta

    for _ in range(3):
        client.post(f"{URL}{ObjectId()}", headers=admin)
    later = two_a_minute.clock() + timedelta(seconds=50)
    app.extensions["billing"] = replace(two_a_minute, clock=lambda: later)
    assert client.post(f"{URL}{ObjectId()}", headers=admin).status_code == 404
