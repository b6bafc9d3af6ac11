"""Several machines, as far as one can show it: a replica set that loses its primary, and everything else that dies."""

import os
import random
import sys
import time

import pytest
import requests
from bson import ObjectId

from billing_service.jobs.schedule import SCHEDULE
from tests.e2e.test_load import proof
from tests.e2e.test_load.admins import Admins, assert_each_success_had_its_effect
from tests.e2e.test_load.cluster import Cluster
from tests.e2e.test_load.installation import Kill
from tests.e2e.test_load.load import everything
from tests.e2e.test_load.test_nothing_is_lost import settle, under_load

LONG = os.environ.get("BILLING_TESTS") == "long"
ENTRIES = {f"cron-{row.job}" for row in SCHEDULE}


@pytest.mark.timeout(240)
def test_several_machines(tmp_path, capsys):
    """The primary dies, the next one hangs; a web, a worker and all of Redis are lost. Elections take two seconds."""
    plan = [
        Kill(1, "primary", 3.5),
        Kill(3, "web-2", 1.5),
        Kill(5, "redis:emptied", 1.2),
        Kill(7, "primary:stopped", 5),
        Kill(8, "worker", 1),
        Kill(9, "scheduler-1", 2),
    ]
    with Cluster(tmp_path, seed=21, election_seconds=2.0) as cluster:
        run(cluster, capsys, plan, seconds=13, organizations=8, rate=25, every=2)


@pytest.mark.skipif(not LONG, reason="takes minutes: BILLING_TESTS=long")
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("seed", [31, 32])
def test_several_machines_in_a_storm(tmp_path, capsys, seed):
    """MongoDB's own times; one fault after the other and some together; nobody asks for a sweep."""
    dice = random.Random(seed)
    kinds = ["primary", "primary:stopped", "secondary", "secondary:stopped", "redis", "redis:emptied", "worker"]
    kinds += ["web-1", "web-2", "web-1:alone", "scheduler-1", "scheduler-2", "worker-1", "worker-2", "worker-3"]
    order = dice.sample(kinds, len(kinds)) + dice.sample(kinds, len(kinds))
    # Nodes one at a time: with two of three away there is no majority, and nothing to show but 503.
    plan = [Kill(16 * (place + 0.5), kind, dice.uniform(3, 14)) for place, kind in enumerate(order)]
    with Cluster(tmp_path, seed=seed) as cluster:
        run(cluster, capsys, plan, seconds=500, organizations=60, rate=30)


def run(cluster, capsys, plan, seconds, organizations, rate, every=None):
    load = under_load(cluster, organizations, rate)
    bumped = [str(ObjectId()) for _ in range(6)]
    cluster.database.organizations.insert_many(
        [{"_id": ObjectId(each), "name": each, "slug": each, "plan": "free"} for each in bumped]
    )
    token = cluster.run("token", "--role", "admin", "--minutes", "60")
    charges = paid_charges(cluster, token, load.customers, 6 if every else 60)
    admins = Admins(cluster.urls, token, bumped, charges, random.Random(cluster.seed))
    faults, kill = [], cluster.kill

    def noted(kind):
        lost = kill(kind)
        faults.append((kind, time.monotonic()))
        return lost

    cluster.kill = noted
    with load, admins:
        cluster.carry_out(plan, seconds, lambda: (load.watch(), admins.watch()))
        load.finish(120)
        admins.finish()
    pending = settle(cluster, 300, every=every)
    repaired = schedule_is_back(cluster)
    report(capsys, cluster, load, admins, faults, pending, repaired)
    check(cluster, load, admins)


def paid_charges(cluster, token, customers, count):
    """Charges of customers that nobody changes afterwards, whose organizations know them."""
    made = []
    headers = {"Authorization": f"Bearer {token}"}
    for place in range(count):
        org_id = str(ObjectId())
        named = {"metadata": {"organizationId": org_id}}
        customer = customers.stripe.customers.create(named).id
        wanted = {"customer": customer, "items": [{"price": customers.prices["pro"]}], **named}
        held = customers.stripe.subscriptions.create(wanted)
        cluster.database.organizations.insert_one(
            {"_id": ObjectId(org_id), "name": f"Paid {place}", "slug": f"paid-{place}", "plan": "free"}
        )
        url = f"{cluster.url}/api/admin/billing/link/{org_id}"
        answer = requests.post(url, json={"stripeSubscriptionId": held.id}, headers=headers, timeout=10)
        assert answer.ok, answer.text
        customers.settled[customer] = org_id
        made.append(customers.stripe.charges.list({"customer": customer}).data[0].id)
    return made


def schedule_is_back(cluster):
    """Seconds until Redis has the whole calendar again, from now; it has lost all of it once at least."""
    begun = time.monotonic()
    with cluster.redis_client() as client:
        while not {key.decode() for key in client.zrange("rq:scheduler:scheduled_jobs", 0, -1)} >= ENTRIES:
            assert time.monotonic() - begun < 90
            time.sleep(0.1)
    return round(time.monotonic() - begun, 1)


def report(capsys, cluster, load, admins, faults, pending, repaired):
    counts = {
        "webhooks": {"answers": dict(load.answers), "accepted": len(load.accepted)},
        "admin calls": dict(admins.answers),
        "a webhook accepted again after": [f"{kind} {recovery(load, at):.1f} s" for kind, at in faults],
        "pending for": f"{pending} s after the load",
        "calendar back": f"{repaired} s after that",
        **proof.counts(cluster.database),
    }
    with capsys.disabled():
        sys.stdout.write("".join(f"\n  {name}: {value}" for name, value in counts.items()) + "\n")


def recovery(load, fault_at):
    """Seconds until the first delivery that was sent after the fault was accepted."""
    return min((answered - fault_at for sent, answered in load.accepted_at if sent >= fault_at), default=float("inf"))


def check(cluster, load, admins):
    database, base = cluster.database, cluster.stripe.url
    proof.assert_none_is_lost(database, load.accepted)
    proof.assert_stripe_has_told_of_everything(base, load.accepted)
    proof.assert_none_failed(database)
    proof.assert_each_was_applied_once(cluster.mongo, database)
    proof.assert_rows_are_as_at_stripe(database, base, load.customers.organizations | load.customers.settled)
    proof.assert_transitions_are_a_chain(database)
    assert_each_success_had_its_effect(admins, database, everything(f"{base}/v1/refunds"))
    runs = list(database.job_runs.find({"job": "sweep"}))
    assert len({each["slot"] for each in runs}) == len(runs)
