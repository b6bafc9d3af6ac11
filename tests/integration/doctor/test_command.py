"""billing-service doctor: what a person and a program are told, and the exit codes."""

import json

import pytest

from billing_service.documents import WebhookEvent


@pytest.fixture
def doctor(world, command_line):
    # The command's own process has one more worker's rights and none of this one's memory.
    return lambda *arguments, **changes: command_line("doctor", *arguments, **changes)


def test_all_is_well(doctor):
    code, printed, said = doctor()
    assert (code, said) == (0, "")
    assert printed.strip().endswith("checks ok")
    assert len(printed.splitlines()) == 1
    code, printed, _ = doctor("--all")
    assert code == 0
    assert "OK       mongodb: MongoDB" in printed


def test_warnings_end_with_1_and_errors_with_2(doctor, world):
    now = world.site.clock()
    WebhookEvent(
        event_id="evt_1",
        type="invoice.paid",
        created=now,
        received_at=now,
        dead_at=now,
        state="dead",
        source="delivery",
    ).save()
    code, printed, _ = doctor()
    assert code == 1
    assert [line.split()[0] for line in printed.splitlines() if line][:4] == ["WARNING", "what", "why", "do"]
    world.database.webhook_events.drop_index("expires")
    try:
        code, printed, _ = doctor("--json")
    finally:
        from billing_service.documents import DOCUMENTS, ensure_indexes

        ensure_indexes(DOCUMENTS)
    told = json.loads(printed)
    assert (code, told["severity"]) == (2, "error")
    assert told["counts"]["error"] == told["counts"]["warning"] == 1
    assert [each["code"] for each in told["findings"][:2]] == ["index_missing", "dead_letters"]
    assert set(told["findings"][0]) == {"code", "severity", "check", "what", "why", "do"}


def test_a_service_that_cannot_start_is_told_all_its_problems(doctor, world, tmp_path):
    world.sandbox.clear_requests()
    code, printed, said = doctor("--json", JWT_SECRET_KEY="short", REDIS_URL="no", STRIPE_SECRET_KEY_FILE="/nowhere")
    told = json.loads(printed)
    assert (code, said) == (2, "")
    refused = [each["what"] for each in told["findings"] if each["code"] == "configuration_refused"]
    assert [what.partition(":")[0] for what in refused] == [
        "STRIPE_SECRET_KEY, STRIPE_SECRET_KEY_FILE",
        "REDIS_URL",
        "JWT_SECRET_KEY",
    ]
    assert world.sandbox.requests()["total"] == 0


def test_a_plan_file_that_cannot_be_used_is_told_with_its_lines(doctor, tmp_path):
    plans = tmp_path / "plans.toml"
    plans.write_text('[[plans]]\nid = "free"\nname = "Free"\nweekly_quota = -1\nprices = 3\n')
    code, printed, _ = doctor(BILLING_PLANS=str(plans))
    assert code == 2
    assert printed.count("plan_file_refused") == 1  # its two problems stand below one heading
    assert printed.count("  what  line 1") == 2
    plans.chmod(0)
    assert doctor(BILLING_PLANS=str(tmp_path))[0] == 2


def test_a_wrong_password_of_mongodb_is_named(doctor, world):
    uri = world.servers.mongod.url.replace("mongodb://", "mongodb://nobody:wrong@").replace("?", "?authSource=admin&")
    code, printed, _ = doctor(MONGODB_URI=uri)
    assert code == 2
    assert "mongodb_unreachable" in printed
    assert "denies access (AuthenticationFailed)" in printed
    assert "check_failed" not in printed


def test_it_never_prints_a_secret(doctor, world):
    secrets = {
        "STRIPE_SECRET_KEY": "sk_test_thatnobodyknows0123",
        "STRIPE_WEBHOOK_SECRETS": "whsec_thatnobodyknows0123",
        "JWT_SECRET_KEY": "a key that nobody knows, thirty-two bytes or more",
        "REDIS_URL": "redis://:thatnobodyknows@127.0.0.1:1/0",
        "MONGODB_URI": "mongodb://me:thatnobodyknows@127.0.0.1:1/billing?serverSelectionTimeoutMS=500",
        "ALERT_WEBHOOK_URL": "https://hooks.slack.com/services/thatnobodyknows",
    }
    for arguments in ((), ("--json",), ("--all",)):
        code, printed, said = doctor(*arguments, **secrets)
        assert code == 2
        assert "nobodyknows" not in printed + said
        assert "nobody knows" not in printed + said
    assert {"mongodb_unreachable", "redis_unreachable", "stripe_key_refused"} <= set(printed.split())
