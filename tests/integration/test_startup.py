"""What a process refuses to start with, and what it only tells."""

import subprocess
import sys
from dataclasses import replace
from datetime import datetime

import jwt as pyjwt
import pytest

from billing_service import startup
from billing_service.documents import ServiceState
from billing_service.errors import WrongAccount
from billing_service.runtime import build
from billing_service.settings import UnsafeConfiguration


def test_the_account_is_stored_at_the_first_start(runtime):
    startup.check(runtime)
    startup.check(runtime)
    assert [each.value for each in ServiceState.objects(name="stripe_account")] == ["acct_sandbox"]
    assert [each.value for each in ServiceState.objects(name="stripe_mode")] == ["test"]


def test_a_key_of_another_account_is_refused(runtime, sandbox):
    startup.check(runtime)
    other = sandbox.add_account(id="acct_other", key="sk_test_other")
    stranger = build(replace(runtime.settings, stripe_secret_key=other["key"]))
    with pytest.raises(UnsafeConfiguration, match="acct_sandbox"):
        startup.check(stranger)
    with pytest.raises(WrongAccount):
        startup.claim_account(stranger.stripe, runtime.clock(), livemode=False)


@pytest.mark.parametrize("away", [False, True])
def test_a_key_of_the_other_mode_is_refused_although_the_account_is_the_same(runtime, sandbox, away):
    """Else test customers that name live organizations in their metadata would give them plans."""
    startup.check(runtime)
    sandbox.add_key(key="sk_live_of_the_tests_1")
    other = build(replace(runtime.settings, stripe_secret_key="sk_live_of_the_tests_1"))
    assert other.settings.livemode
    if away:
        sandbox.arm("drop", times=None)
    with pytest.raises(UnsafeConfiguration, match=r"STRIPE_SECRET_KEY: this database is of Stripe's test mode"):
        startup.check(other)
    assert [each.value for each in ServiceState.objects(name="stripe_mode")] == ["test"]


def test_a_database_of_an_earlier_version_gets_the_mode_of_its_key(runtime):
    startup.check(runtime)
    ServiceState.objects(name="stripe_mode").delete()
    startup.check(runtime)
    assert ServiceState.objects(name="stripe_mode").first().value == "test"


def test_stripe_away_does_not_stop_a_start(runtime, sandbox):
    sandbox.arm("drop", times=None)
    startup.check(runtime)
    assert ServiceState.objects(name__in=["stripe_account", "stripe_mode"]).count() == 0


def test_mongodb_away_does_not_stop_a_start(runtime, servers):
    servers.mongod.kill()
    try:
        startup.check(runtime)
    finally:
        servers.mongod.start()


def test_a_mongodb_without_transactions_is_refused(runtime, tmp_path):
    from billing_service.documents import connect
    from billing_service.sandbox import servers as starters

    port = starters.free_port()
    process = subprocess.Popen(
        [starters.find_mongod(), "--port", str(port), "--bind_ip", "127.0.0.1", "--nounixsocket", "--dbpath", tmp_path],
        stdout=subprocess.DEVNULL,
    )
    try:
        connect(f"mongodb://127.0.0.1:{port}/billing")
        with pytest.raises(UnsafeConfiguration, match="transactions"):
            startup.check(runtime)
    finally:
        connect(runtime.settings.mongodb_uri)
        process.kill()
        process.wait()


def run(environment, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "billing_service.cli", *arguments],
        env={"PATH": "/usr/bin:/bin"} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_unsafe_configuration_is_told_in_one_list(environment):
    done = run(environment | {"JWT_SECRET_KEY": "short", "REDIS_URL": "no"}, "web")
    assert done.returncode == 2
    assert "JWT_SECRET_KEY" in done.stderr
    assert "REDIS_URL" in done.stderr
    assert "Traceback" not in done.stderr


def test_development_reads_secrets_from_files_too(environment, tmp_path):
    done = run({"STRIPE_SECRET_KEY_FILE": "/nowhere/key"}, "dev", "--data-dir", str(tmp_path))
    assert done.returncode == 2
    assert "STRIPE_SECRET_KEY_FILE" in done.stderr
    key = tmp_path / "key"
    key.write_text("sk_test_1\n")
    done = run({"STRIPE_SECRET_KEY_FILE": str(key)}, "dev", "--data-dir", str(tmp_path))
    assert (done.returncode, "STRIPE_SECRET_KEY is set" in done.stderr) == (1, True)


def test_a_bad_plan_file_is_told_with_its_line(environment, tmp_path):
    plans = tmp_path / "plans.toml"
    plans.write_text('[[plans]]\nid = "free"\nname = "Free"\nweekly_quota = -1\nprices = []\n')
    done = run(environment | {"BILLING_PLANS": str(plans)}, "indexes")
    assert done.returncode == 2
    assert "line 1" in done.stderr


def test_a_token_of_the_command_line_is_good(environment, app, client):
    import json

    made = json.loads(run(environment, "token", "--role", "auditor", "--minutes", "5", "--json").stdout)
    assert set(made) == {"token", "expiresAt"}
    ends = pyjwt.decode(made["token"], options={"verify_signature": False})["exp"]
    assert datetime.fromisoformat(made["expiresAt"]).timestamp() == ends
    answer = client.get("/api/admin/billing/audit", headers={"Authorization": f"Bearer {made['token']}"})
    assert answer.status_code == 200
    assert run(environment, "token", "--role", "king").returncode == 2


def test_sync_and_link_work_from_the_command_line(environment, app, billed, organization, stripe, subscribe):
    import json

    from billing_service.documents import AdminAction

    it = billed("pro", stored=False)
    dry = json.loads(run(environment, "sync", str(it.org_id), "--dry-run", "--json").stdout)
    assert (dry["plan"], it.row.plan) == ("pro", "free")
    done = run(environment, "sync", str(it.org_id), "--note", "they paid")
    assert done.returncode == 0, done.stderr
    assert "free" in done.stdout
    assert "pro" in done.stdout
    assert it.row.plan == "pro"
    assert AdminAction.objects(organization=it.org_id, phase="outcome").first().note == "they paid"
    org_id, subscription = organization(), subscribe(stripe.customers.create({}).id, "starter")
    linked = run(environment, "link", str(org_id), subscription, "--json")
    assert json.loads(linked.stdout)["plan"] == "starter"
    refused = run(environment, "link", str(organization()), subscription)
    assert refused.returncode == 1
    assert "customer_shared" in refused.stderr
    assert run(environment, "sync", "nonsense").returncode == 2
