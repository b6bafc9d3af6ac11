"""GET /api/admin/billing/events/{eventId}"""

import json
from datetime import timedelta

import pytest

from billing_service.blueprints.wire import iso
from billing_service.documents import WebhookEvent
from billing_service.webhooks import ledger

URL = "/api/admin/billing/events/"


def test_it_works(client, admin, dead):
    event = dead(api_version="2026-10-28.endive", livemode=False, secret_index=1, lease_losses=2)
    answer = client.get(URL + event.event_id, headers=admin)
    assert answer.status_code == 200
    shown = answer.json
    assert (shown["eventId"], shown["state"], shown["attempts"]) == (event.event_id, "dead", 5)
    assert (shown["apiVersion"], shown["livemode"], shown["secretIndex"]) == ("2026-10-28.endive", False, 1)
    assert (shown["atStripe"], shown["closed"], shown["leaseLosses"]) == (True, None, 2)
    assert shown["fingerprint"] == "ValueError: no plan for #"
    assert shown["history"] == [
        {
            "at": iso(event.history[0].at),
            "source": "webhook",
            "actor": "worker",
            "codeVersion": "0.1.0",
            "milliseconds": 12,
            "jobId": None,
            "outcome": None,
            "errorClass": "ValueError",
            "errorMessage": "no plan for [masked]",
        }
    ]
    assert shown["payload"] == json.loads(event.payload)
    assert shown["payloadMasked"] is False


@pytest.mark.parametrize("role", ["auditor", "support"])
def test_personal_data_are_masked_without_the_permission_for_payloads(client, token, recorded, role):
    event = recorded()
    answer = client.get(URL + event.event_id, headers=token(role))
    assert answer.json["payloadMasked"] is True
    assert answer.json["payload"]["data"]["object"] == {
        "object": "subscription",
        "id": "sub_E1",
        "customer": "cus_E1",
        "status": "active",
        "description": "[masked]",
        "metadata": {"organizationId": "5" * 24, "contact": "[masked]"},
    }
    assert "jenny" not in answer.text.lower()


def test_secrets_are_masked_for_everybody(client, admin, recorded):
    event = recorded(payload='{"id": "pi_1", "client_secret": "pi_1_secret_2", "name": "Jenny"}')
    answer = client.get(URL + event.event_id, headers=admin)
    assert answer.json["payload"] == {"id": "pi_1", "client_secret": "[masked]", "name": "Jenny"}


def test_a_payload_that_was_erased_is_null(client, admin, recorded):
    event = recorded(payload=None)
    answer = client.get(URL + event.event_id, headers=admin)
    assert (answer.status_code, answer.json["payload"]) == (200, None)


@pytest.mark.parametrize("payload", ["[" * 5000, "no json", "", '{"a": ' * 900 + "1" + "}" * 900])
def test_a_payload_that_cannot_be_shown_does_not_fail(client, admin, token, recorded, payload):
    event = recorded(payload=payload)
    for headers in (admin, token("auditor")):
        answer = client.get(URL + event.event_id, headers=headers)
        assert answer.status_code == 200
        assert answer.json["payload"] is not None


@pytest.mark.parametrize(("days", "there"), [(29.9, True), (30.1, False), (-0.1, True)])
def test_it_says_whether_stripe_still_has_it(client, admin, recorded, runtime, days, there):
    event = recorded(created=runtime.clock() - timedelta(days=days))
    assert client.get(URL + event.event_id, headers=admin).json["atStripe"] is there


def test_a_closed_one_tells_by_whom_and_why(client, admin, dead):
    event = dead()
    assert ledger.close(event.event_id, by="ada", note="$known")
    shown = client.get(URL + event.event_id, headers=admin).json
    assert (shown["state"], shown["closed"]["by"], shown["closed"]["note"]) == ("closed", "ada", "$known")
    assert shown["expiresAt"] is not None


def test_an_unknown_one_is_404(client, admin):
    answer = client.get(URL + "evt_unknown", headers=admin)
    assert (answer.status_code, answer.json["code"]) == (404, "event_not_found")
    assert "evt_unknown" in answer.json["detail"]


def test_it_needs_a_token(client, recorded):
    assert client.get(URL + recorded().event_id).status_code == 401


def test_it_needs_the_permission(client, token, recorded):
    answer = client.get(URL + recorded().event_id, headers=token("service"))
    assert (answer.status_code, answer.json["code"]) == (403, "forbidden")


@pytest.mark.parametrize(
    "event_id", ["1", "evt_", "sub_1", "evt_1%0a", "evt_1%00", "evt_$ne", "evt_a.b", "evt_%D9%A1", "evt_" + "a" * 251]
)
def test_a_malformed_id_is_refused_before_anything_is_looked_up(client, admin, servers, event_id):
    answer = client.get(URL + event_id, headers=admin)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request")
    assert list(answer.json["errors"]) == ["eventId"]


def test_an_unknown_query_parameter_is_refused(client, admin, recorded):
    answer = client.get(URL + recorded().event_id + "?unmasked=true", headers=admin)
    assert (answer.status_code, answer.json["errors"]) == (422, {"unmasked": ["Unknown field."]})


def test_reading_writes_nothing(client, admin, dead, frozen):
    event = dead()
    with frozen:
        client.get(URL + event.event_id, headers=admin)
    assert WebhookEvent.objects(event_id=event.event_id).first().state == "dead"


def test_a_replay_that_was_asked_for_is_shown(client, admin, recorded, runtime):
    from billing_service.documents.webhook_event import Replay

    asked = Replay(job_id="replay-evt_1-1", actor="ada", asked_at=runtime.clock())
    event = recorded(state="failed", returns_to="dead", replay=asked, replays=1)
    shown = client.get(URL + event.event_id, headers=admin).json
    assert shown["replay"] == {"jobId": "replay-evt_1-1", "actor": "ada", "askedAt": iso(asked.asked_at)}
    assert shown["replays"] == 1
