"""What was answered 2xx is brought to its end, once, whatever is killed meanwhile, and however often."""

import os
import random
import sys
import time

import pytest
import requests
from bson import ObjectId

from billing_service.sandbox.stripe.control import Control
from tests.e2e.test_load import proof
from tests.e2e.test_load.installation import SECRET, Installation, Kill, plan_of_kills
from tests.e2e.test_load.load import KEY, Customers, Load

LONG = os.environ.get("BILLING_TESTS") == "long"
PARTS = ["worker", "web", "mongod", "redis"]
# Also: gunicorn's workers outlive their master, Redis comes back with nothing.
ALL_WAYS = [*PARTS, "scheduler", "web:alone", "redis:emptied", "worker"]
STRIPE_SECONDS = 0.06


@pytest.mark.timeout(240)
def test_nothing_is_lost(tmp_path, capsys):
    """Each part once. The sweep is enqueued by hand: a lease and the minute after it take longer than this may."""
    with Installation(tmp_path, seed=11) as installation:
        load = under_load(installation, organizations=12, rate=40)
        plan = plan_of_kills(installation.dice, PARTS, rounds=1, pace=4.5, longest=6)
        with load:
            installation.carry_out(plan, 22, load.watch)
            load.finish(60)
        seconds = settle(installation, 90, every=2)
        report(capsys, installation, load, seconds)
        check(installation, load)


@pytest.mark.skipif(not LONG, reason="takes minutes: BILLING_TESTS=long")
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_is_lost_in_a_storm(tmp_path, capsys, seed):
    """Each part many times, some while others are away; then the product's own scheduler has to do the rest."""
    with Installation(tmp_path, seed=seed) as installation:
        load = under_load(installation, organizations=150, rate=60)
        plan = plan_of_kills(installation.dice, ALL_WAYS, rounds=5, pace=5, longest=7)
        with load:
            installation.carry_out(plan, 210, load.watch)
            load.finish(120)
        seconds = settle(installation, 300)
        counts = report(capsys, installation, load, seconds)
        check(installation, load)
        # Else nobody was at work when it was killed.
        assert counts["leases lost"]


def test_web_comes_back_although_its_workers_outlive_it(tmp_path):
    """The master alone dies, as the kernel ends one for want of memory; busy workers must not keep its port."""
    with Installation(tmp_path, seed=5) as installation:
        load = under_load(installation, organizations=5, rate=40)
        with load:
            installation.carry_out([Kill(2, "web:alone", 0.2)], 8, load.watch)
            load.finish(20)


def under_load(installation, organizations, rate):
    """The load for an installation, its organizations told of."""
    dice, base = random.Random(installation.seed), installation.stripe.url
    control = Control(base)
    control.add_key(key=KEY)
    # Stripe takes its time, so that what is killed is at work.
    control.arm("delay", method="GET", key="sk_test_sandbox", seconds=STRIPE_SECONDS, times=None)
    headers = {"Authorization": f"Bearer {installation.run('token', '--role', 'service')}"}
    ids = [str(ObjectId()) for _ in range(organizations)]
    for place, org_id in enumerate(ids):
        url = f"{installation.url}/api/billing/organizations/{org_id}"
        body = {"name": f"Org {place}", "slug": f"org-{place}"}
        requests.put(url, json=body, headers=headers, timeout=10).raise_for_status()
    customers = Customers(base, ids, random.Random(installation.seed + 1))
    return Load([f"{url}/api/billing/webhook" for url in installation.urls], SECRET, base, customers, rate, dice)


def settle(installation, seconds, every=None):
    """Wait until nothing is pending, and say for how long; every so many seconds, if given, ask for a sweep."""
    begun, asked_at = time.monotonic(), 0.0
    while proof.unsettled(installation.database):
        installation.assert_up()
        if time.monotonic() - begun > seconds:
            break  # what is left is told by the check
        if every and time.monotonic() - asked_at > every:
            installation.enqueue_sweep()
            asked_at = time.monotonic()
        time.sleep(0.2)
    return round(time.monotonic() - begun, 1)


def report(capsys, installation, load, seconds):
    counts = {
        "sent": sum(load.answers.values()),
        "answers": dict(load.answers),
        "accepted": len(load.accepted),
        "accepted again": sum(load.accepted.values()) - len(load.accepted),
        "kills": dict(installation.killed),
        "pending for": f"{seconds} s after the load",
        **proof.counts(installation.database),
    }
    with capsys.disabled():
        sys.stdout.write("".join(f"\n  {name}: {value}" for name, value in counts.items()) + "\n")
    return counts


def check(installation, load):
    database, base = installation.database, installation.stripe.url
    proof.assert_none_is_lost(database, load.accepted)
    proof.assert_stripe_has_told_of_everything(base, load.accepted)
    proof.assert_none_failed(database)
    proof.assert_each_was_applied_once(installation.mongo, database)
    proof.assert_rows_are_as_at_stripe(database, base, load.customers.organizations)
    proof.assert_transitions_are_a_chain(database)
