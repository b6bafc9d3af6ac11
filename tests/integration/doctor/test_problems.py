"""Each thing that can be wrong, seeded alone into a good system: the doctor finds it, and nothing else."""

import subprocess
import time
from datetime import timedelta

import pytest

from billing_service.doctor import PROBLEMS, Check, examine
from billing_service.documents import JobRun, ServiceState, WebhookEvent
from billing_service.jobs.runs import slot_name
from billing_service.jobs.schedule import row_of
from billing_service.jobs.scheduler import repair
from billing_service.stripe_gateway import mark_of
from billing_service.webhooks import HANDLERS, pauses

# rq-scheduler 0.14.0 calls its cron library and the standard library the old way (rq_scheduler/utils.py).
pytestmark = [
    pytest.mark.filterwarnings("ignore:Version 0.22.0:FutureWarning"),
    pytest.mark.filterwarnings("ignore:datetime.datetime.utc:DeprecationWarning"),
]

PLAN = '[[plans]]\nid = "pro"\nname = "Pro"\nweekly_quota = 2\nprices = ["{}"]\n'
PACK = '[[packs]]\nid = "more"\nunits = 9\nprice = "{}"\namount = {}\ncurrency = "usd"\nexpires_after_days = 9\n'
# Told by the command line, where the service itself does not start (test_command.py), or by no real server here.
ELSEWHERE = {
    "configuration_refused",
    "plan_file_refused",
    "check_failed",
    "check_timed_out",
    "not_checked",
    "mongodb_version",
    "redis_version",
}


def codes(report):
    return [each.code for each in report.findings if each.severity != "ok"]


def live(world):
    """A key of live mode; Settings would refuse it with the sandbox's address."""
    world.sandbox.add_key(key="sk_live_of_the_tests_1")
    ServiceState.objects(name="stripe_mode").update_one(set__value="live")
    world.told(stripe_secret_key="sk_live_of_the_tests_1", alert_webhook_url="https://hooks.slack.com/x")


def sample_plans_in_live_mode(world):
    live(world)
    return {"mongodb_single_node"}


def no_alert_receiver(world):
    live(world)
    world.told(alert_webhook_url="")
    return {"mongodb_single_node", "sample_plans_in_live_mode"}


def mongodb_single_node(world):
    live(world)
    return {"sample_plans_in_live_mode"}


def stripe_not_configured(world):
    world.told(stripe_secret_key="", stripe_webhook_secrets=())
    return {"not_checked"}


def stripe_unreachable(world):
    world.sandbox.arm("drop", times=None)
    return {"not_checked"}


def stripe_key_refused(world):
    world.told(stripe_secret_key="sk_test_nobodys")
    return {"not_checked"}


def stripe_account_differs(world):
    ServiceState.objects(name="stripe_account").update_one(set__value="acct_before")


def stripe_permission_missing(world):
    key = world.sandbox.add_key(permissions={"*": "read", "invoices": "none"})
    world.told(stripe_secret_key=key)


def stripe_permission_for_doctor_missing(world):
    world.told(stripe_secret_key=world.sandbox.add_key(permissions={"*": "read", "prices": "none"}))
    return {"not_checked"}


def clock_skewed(world):
    world.sandbox.advance(20)


def clock_wrong(world):
    world.sandbox.advance(90)


def webhook_endpoint_missing(world):
    world.stripe.webhook_endpoints.delete(world.endpoint)


def webhook_endpoint_elsewhere(world):
    world.told(public_url="https://bills.example.com")


def webhook_endpoint_disabled(world):
    world.stripe.webhook_endpoints.update(world.endpoint, {"disabled": True})


def webhook_endpoint_twice(world):
    copy = {"url": "https://billing.example.com/api/billing/webhook/", "enabled_events": sorted(HANDLERS)}
    world.stripe.webhook_endpoints.create(copy)


def webhook_endpoint_ambiguous(world):
    other = {"url": "https://staging.example.com/api/billing/webhook", "enabled_events": sorted(HANDLERS)}
    world.stripe.webhook_endpoints.create(other)


def webhook_types_missing(world):
    some = sorted(HANDLERS.keys() - {"invoice.paid"})
    world.stripe.webhook_endpoints.update(world.endpoint, {"enabled_events": some})


def webhook_types_unneeded(world):
    world.stripe.webhook_endpoints.update(world.endpoint, {"enabled_events": [*sorted(HANDLERS), "payout.paid"]})


def webhook_api_version(world):
    world.sandbox.patch(world.endpoint, {"api_version": "2019-12-03"})


def webhooks_not_arriving(world):
    world.sandbox.patch(world.endpoint, {"created": world.sandbox.now() - 7_200})
    subject = {"id": "in_1", "object": "invoice", "customer": "cus_1"}
    lost = world.sandbox.emit("invoice.paid", subject)
    world.sandbox.patch(lost["id"], {"created": world.sandbox.now() - 3_600})


def webhook_secret_unused(world):
    world.told(stripe_webhook_secrets=("whsec_new_0123456789", "whsec_old_0123456789"))
    stored(world, state="succeeded", secret_mark=mark_of("whsec_old_0123456789"))


def price_missing(world):
    world.plans(PLAN.format("price_nowhere"))


def price_of_other_mode(world):
    world.sandbox.patch("price_pro_monthly", {"livemode": True})


def price_inactive(world):
    world.stripe.prices.update("price_pack_100k", {"active": False})


def price_of_wrong_kind(world):
    world.plans(PLAN.format("price_pack_100k"))


def pack_price_differs(world):
    world.plans(PACK.format("price_pack_100k", 490))


def mongodb_unreachable(world):
    world.servers.mongod.kill()
    return {"not_checked"}


def mongodb_no_transactions(world):
    from billing_service.documents import connect
    from billing_service.sandbox import servers as starters

    port = starters.free_port()
    argv = [starters.find_mongod(), "--port", str(port), "--bind_ip", "127.0.0.1", "--nounixsocket"]
    world.standalone = subprocess.Popen([*argv, "--dbpath", str(world.folder)], stdout=subprocess.DEVNULL)
    connect(f"mongodb://127.0.0.1:{port}/billing")
    return {"index_missing"}  # it is empty


def mongodb_write_concern(world):
    world.database.client.admin.command({"setDefaultRWConcern": 1, "defaultWriteConcern": {"w": 1, "wtimeout": 0}})


def index_missing(world):
    world.database.webhook_events.drop_index("expires")


def index_differs(world):
    world.database.webhook_events.drop_index("expires")
    world.database.webhook_events.create_index("expires_at", name="expires", expireAfterSeconds=0)


def index_retired(world):
    world.database.findings.create_index("state", name="state_newest")


def redis_unreachable(world):
    world.servers.redis.kill()
    return {"not_checked"}


def redis_evicts(world):
    world.redis.config_set("maxmemory-policy", "allkeys-lru")


def redis_not_persistent(world):
    world.redis.config_set("appendonly", "no")


def redis_read_only(world):
    world.redis.replicaof("127.0.0.1", 1)


def no_worker(world):
    world.worker.register_death()


def queue_unserved(world):
    from rq import SimpleWorker

    world.worker.register_death()
    SimpleWorker(["webhooks", "admin"], connection=world.redis).register_birth()


def scheduler_not_running(world):
    world.redis.zadd("rq:scheduler:scheduled_jobs", {"cron-sweep": time.time() - 120})


def schedule_differs(world):
    repair(world.redis, (row_of("reconcile"), row_of("sweep")))


def job_overdue(world):
    now = world.site.clock()
    ServiceState(name="scheduled_since:dunning", value="0 3 * * *", at=now - timedelta(days=9)).save()


def job_failed(world):
    now, row = world.site.clock(), row_of("dunning")
    ServiceState(name="scheduled_since:dunning", value=row.cron, at=now - timedelta(days=9)).save()
    slot = slot_name(row.latest_slot(now - timedelta(minutes=15)))
    JobRun(job="dunning", slot=slot, state="given_up", attempt=3, lease_until=now, claimed_at=now, error="no").save()


def stored(world, *, minutes=0, **fields):
    now = world.site.clock()
    at = now - timedelta(minutes=minutes)
    WebhookEvent(
        event_id="evt_1", type="invoice.paid", created=at, received_at=at, source="delivery", payload="{}", **fields
    ).save()


def events_late(world):
    stored(world, state="received", minutes=6)


def events_stuck(world):
    stored(world, state="failed", minutes=61)


def dead_letters(world):
    stored(world, state="dead", dead_at=world.site.clock())


def dispatch_paused(world):
    pauses.pause("invoice.paid", by="ada", note=None, now=world.site.clock())


SEEDS = [each for name, each in list(globals().items()) if name in PROBLEMS]


@pytest.fixture
def mended(world):
    """Whatever a test did to the servers of all tests is undone."""
    from mongoengine.connection import get_db

    from billing_service.documents import DOCUMENTS, connect, ensure_indexes

    yield
    for server in (world.servers.mongod, world.servers.redis):
        if server.child.is_running is False:
            server.start()
    if standalone := getattr(world, "standalone", None):
        connect(world.servers.mongod.url)
        standalone.kill()
        standalone.wait()
    redis = world.redis
    redis.replicaof("NO", "ONE")
    redis.config_set("maxmemory-policy", "noeviction")
    redis.config_set("appendonly", "yes")
    majority = {"setDefaultRWConcern": 1, "defaultWriteConcern": {"w": "majority", "wtimeout": 0}}
    database = get_db()
    database.client.admin.command(majority)
    database.findings.drop_indexes()
    database.webhook_events.drop_indexes()
    ensure_indexes(DOCUMENTS)


def test_a_good_system_is_told_to_be_good(world):
    report = world.examined()
    assert codes(report) == []
    assert report.severity == "ok"
    assert report.count("ok") >= 14


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: seed.__name__)
def test_a_problem_is_found_and_nothing_else(world, mended, seed):
    beside = seed(world) or set()
    report = world.examined()
    found = codes(report)
    assert found.count(seed.__name__) == 1, report.findings
    assert set(found) - {seed.__name__} == beside, report.findings
    problem = next(each for each in report.findings if each.code == seed.__name__)
    assert problem.severity == PROBLEMS[seed.__name__].severity
    assert all(len(words) > 10 for words in (problem.what, problem.why, problem.do))


def test_every_problem_is_seeded():
    assert {seed.__name__ for seed in SEEDS} | ELSEWHERE == set(PROBLEMS)
    assert len(SEEDS) > 20


def test_a_database_of_the_other_mode_is_told_too(world):
    ServiceState.objects(name="stripe_mode").update_one(set__value="live")
    report = world.examined()
    assert codes(report) == ["stripe_account_differs"]
    assert "live mode" in next(each.what for each in report.findings if each.code == "stripe_account_differs")


def test_all_types_are_unneeded_too(world):
    world.stripe.webhook_endpoints.update(world.endpoint, {"enabled_events": ["*"]})
    assert codes(world.examined()) == ["webhook_types_unneeded"]


def test_no_calendar_at_all_is_no_scheduler(world):
    world.redis.delete("rq:scheduler:scheduled_jobs")
    assert codes(world.examined()) == ["scheduler_not_running"]


def test_a_price_that_is_sold_no_more_still_means_its_plan(world):
    world.stripe.prices.update("price_pro_yearly", {"active": False})
    assert codes(world.examined()) == []


def test_a_job_that_stands_still_is_overdue(world):
    now, row = world.site.clock(), row_of("dunning")
    ServiceState(name="scheduled_since:dunning", value=row.cron, at=now - timedelta(days=9)).save()
    slot = slot_name(row.latest_slot(now - timedelta(minutes=15)))
    run = JobRun(job="dunning", slot=slot, state="running", lease_until=now - timedelta(hours=1), claimed_at=now).save()
    assert codes(world.examined()) == ["job_overdue"]
    run.update(set__state="succeeded")
    assert codes(world.examined()) == []


def test_a_sweep_that_stopped_is_overdue(world):
    at = world.site.clock() - timedelta(minutes=9)
    JobRun(job="sweep", slot=slot_name(at), state="succeeded", lease_until=at, claimed_at=at).save()
    assert codes(world.examined()) == ["job_overdue"]


def test_a_weak_key_is_told_call_by_call(world):
    weak = {"account": "read", "customers": "read", "webhook_endpoints": "read", "prices": "read", "events": "read"}
    world.told(stripe_secret_key=world.sandbox.add_key(permissions=weak))
    lacking = [each.what for each in world.examined().findings if each.code == "stripe_permission_missing"]
    assert len(lacking) == 6
    told = " ".join(lacking)
    for permission, call in (("rak_subscription_read", "subscriptions_page"), ("rak_invoice_read", "open_invoices_of")):
        assert permission in told
        assert call in told


def test_a_strong_restricted_key_is_good_and_nothing_is_changed_by_it(world):
    world.told(stripe_secret_key=world.sandbox.add_key(permissions={"*": "read"}))
    world.sandbox.clear_requests()
    report = world.examined()
    assert codes(report) == []
    assert any("cancel_now" in each.what and "not tried" in each.what for each in report.findings)
    asked = world.sandbox.requests(limit=1000)["items"]
    assert {each["method"] for each in asked} == {"GET"}


def test_it_writes_nothing(world, frozen):
    with frozen:
        world.examined()


def test_a_check_that_fails_or_hangs_is_in_nobodys_way(world):
    def fails(site):
        yield from ()
        raise ZeroDivisionError("with sk_test_secret_0123")

    def hangs(site):
        time.sleep(3)
        yield from ()

    checks = [
        Check("fails", fails),
        Check("hangs", hangs, seconds=0.2),
        Check("behind", fails, needs=("hangs",)),
        Check("good", lambda site: []),
    ]
    began = time.monotonic()
    report = examine(world.site, checks)
    assert time.monotonic() - began < 2
    assert codes(report) == ["check_failed", "check_timed_out", "not_checked"]
    assert "sk_test_secret" not in str(report)
    assert "behind: hangs is in the way" in report.findings[-1].what


def test_stripe_down_leaves_the_rest_to_be_looked_at(world):
    stored(world, state="dead", dead_at=world.site.clock())
    world.sandbox.arm("error", status=500, times=None)
    assert set(codes(world.examined())) == {"stripe_unreachable", "not_checked", "dead_letters"}
