"""What the doctor says of webhooks that arrive: which secret verifies them now, and whether the newest came."""

from datetime import timedelta

import pytest

from billing_service.documents import WebhookEvent
from billing_service.stripe_gateway import mark_of

NEW, OLD = "whsec_new_0123456789", "whsec_old_0123456789"


@pytest.fixture
def delivered(world):
    """Stores deliveries of so many minutes ago, each verified by a secret."""

    def make(*those):
        for number, (minutes, secret) in enumerate(those):
            at = world.site.clock() - timedelta(minutes=minutes)
            WebhookEvent(
                event_id=f"evt_{number}", type="invoice.paid", created=at, received_at=at, source="delivery",
                payload="{}", state="succeeded", secret_index=0, secret_mark=mark_of(secret) if secret else None,
            ).save()  # fmt: skip

    return make


def told(world, check):
    return [each.what for each in world.examined().findings if each.check == check]


def test_a_secret_that_was_put_in_front_has_verified_nothing_yet(world, delivered):
    """In the middle of a rotation: who believed that the new one works would end the old one."""
    world.told(stripe_webhook_secrets=(OLD,))
    delivered((5, OLD), (3, OLD))
    assert [each.partition(" at ")[0] for each in told(world, "secrets")] == [
        "Webhook secret 1 of 1 verified last,",
    ]
    world.told(stripe_webhook_secrets=(NEW, OLD))
    last, unused = sorted(told(world, "secrets"), key=len, reverse=True)
    assert unused != last
    assert {each.partition(" at ")[0] for each in (last, unused)} == {
        "Webhook secret 2 of 2 verified last,",
        "Webhook secret 1 of 2 verified none of the newest deliveries.",
    }


def test_one_that_is_set_no_more_is_not_counted(world, delivered):
    world.told(stripe_webhook_secrets=(NEW,))
    delivered((9, NEW), (2, OLD))
    [words] = told(world, "secrets")
    assert words.startswith("Webhook secret 1 of 1 verified last,")


def test_of_deliveries_before_this_version_nothing_is_said(world, delivered):
    world.told(stripe_webhook_secrets=(NEW, OLD))
    delivered((9, None))
    assert told(world, "secrets") == ["No webhook was delivered lately, so nothing is known of the webhook secrets."]


def lose(world, count, minutes):
    """Events of so long ago at Stripe; returns their ids, the newest first."""
    ids = []
    for number in range(count):
        made = world.sandbox.emit(
            "invoice.paid", {"id": f"in_{minutes}_{number}", "object": "invoice", "customer": "cus_1"}
        )
        world.sandbox.patch(made["id"], {"created": world.sandbox.now() - 60 * minutes + number})
        ids.insert(0, made["id"])
    return ids


@pytest.mark.parametrize(("lost", "found"), [(2, []), (3, ["webhooks_not_arriving"])])
def test_deliveries_that_have_stopped_are_seen_although_earlier_ones_came(world, lost, found):
    """As after a change of the secret this morning."""
    world.sandbox.patch(world.endpoint, {"created": world.sandbox.now() - 86_400})
    for event_id in lose(world, 6, minutes=300):
        at = world.site.clock() - timedelta(minutes=300)
        WebhookEvent(
            event_id=event_id, type="invoice.paid", created=at, received_at=at, source="delivery", payload="{}",
            state="succeeded",
        ).save()  # fmt: skip
    lose(world, lost, minutes=60)
    assert [each.code for each in world.examined().findings if each.severity == "error"] == found
