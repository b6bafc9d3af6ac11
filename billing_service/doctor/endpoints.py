"""Stripe's side of webhooks: the endpoint, what it sends, whether it arrives, and which secret verifies it."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from ..documents import WebhookEvent
from ..runtime import Runtime
from ..stripe_gateway import mark_of
from ..webhooks import HANDLERS
from ..webhooks.quick import is_readable
from .findings import Seen, fine

PATH = "/api/billing/webhook"
EVERY = "*"
# Stripe delivers within seconds; the first retry of a delivery that failed is minutes later.
ARRIVES_WITHIN = timedelta(minutes=10)
LOOKED_BACK = timedelta(days=1)
LOOKED_AT = 20
# One or two may have met a restart, and are sent again later.
LOST_IN_A_ROW = 3
# Among so many of the newest events each secret's last delivery is looked for.
NEWEST = 1_000
SHOWN = 10


def look_at_endpoint(site: Runtime) -> Iterator[Seen]:
    """The endpoint that sends here: it is there, enabled, once, and sends what is handled in a version that is read."""
    found = site.stripe.webhook_endpoints().value
    ours = _ours(site, found)
    if not ours:
        yield _nowhere(site, found)
        return
    enabled = [each for each in ours if each.get("status") == "enabled"]
    if not enabled:
        yield Seen("webhook_endpoint_disabled", f"The endpoint {_named(ours)} is disabled.")
        return
    addresses = {each["url"].rstrip("/") for each in enabled}
    if len(addresses) > 1:
        yield Seen("webhook_endpoint_ambiguous", f"Stripe sends to {' and '.join(sorted(addresses))}.")
        return
    if len(enabled) > 1:
        yield Seen("webhook_endpoint_twice", f"Stripe sends to {addresses.pop()} from {_named(enabled)}.")
    problems = [seen for each in enabled for seen in _problems(each)]
    yield from problems
    if not problems:
        yield fine(f"The endpoint {_named(enabled)} sends what is handled to {enabled[0]['url']}.")


def _ours(site: Runtime, endpoints: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    wanted = site.settings.public_url.rstrip("/") + PATH
    if site.settings.public_url:
        return [each for each in endpoints if each["url"].rstrip("/") == wanted]
    return _of_our_kind(endpoints)


def _of_our_kind(endpoints: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [each for each in endpoints if urlsplit(each["url"]).path.rstrip("/").endswith(PATH)]


def _nowhere(site: Runtime, endpoints: Sequence[dict[str, Any]]) -> Seen:
    others = _of_our_kind(endpoints)
    if others:
        sent_to = " and ".join(sorted({each["url"] for each in others}))
        return Seen(
            "webhook_endpoint_elsewhere", f"Stripe sends to {sent_to}; ours is {site.settings.public_url}{PATH}."
        )
    return Seen("webhook_endpoint_missing", f"None of Stripe's {len(endpoints)} endpoints leads to {PATH}.")


def _problems(endpoint: dict[str, Any]) -> Iterator[Seen]:
    sent = set(endpoint["enabled_events"])
    lacking, unneeded = sorted(HANDLERS.keys() - sent), sorted(sent - HANDLERS.keys())
    if EVERY in sent:
        yield Seen("webhook_types_unneeded", f"The endpoint {endpoint['id']} sends all types (*).")
    elif unneeded:
        yield Seen("webhook_types_unneeded", f"The endpoint {endpoint['id']} sends {_some(unneeded)}.")
    if lacking and EVERY not in sent:
        yield Seen("webhook_types_missing", f"The endpoint {endpoint['id']} does not send {_some(lacking)}.")
    version = endpoint.get("api_version")
    if version is not None and not is_readable(version):
        yield Seen("webhook_api_version", f"The endpoint {endpoint['id']} sends events of the version {version}.")


def look_at_deliveries(site: Runtime) -> Iterator[Seen]:
    """Whether what Stripe lists of the last day was delivered here; what the hourly look found was not."""
    since = _delivering_since(site)
    if since is None:
        return
    read = site.stripe.events(created_gte=int(since.timestamp()))
    yield from _unread_version(read.value["data"])
    until = (read.seen_until or site.clock()) - ARRIVES_WITHIN
    due = [each for each in read.value["data"] if each["type"] in HANDLERS and _created(each) <= until][:LOOKED_AT]
    if not due:
        yield fine("Stripe has no events of the last day that should have been delivered.")
        return
    found = WebhookEvent.objects(event_id__in=[each["id"] for each in due], source="delivery").only("event_id")
    arrived = {each.event_id for each in found}
    since_then = next((place for place, each in enumerate(due) if each["id"] in arrived), len(due))
    if since_then >= min(LOST_IN_A_ROW, len(due)):
        yield Seen(
            "webhooks_not_arriving", f"Of Stripe's newest {since_then} events that matter here none was delivered."
        )
    else:
        yield fine(f"{len(arrived)} of Stripe's newest {len(due)} events that matter here were delivered.")


def _unread_version(events: Sequence[dict[str, Any]]) -> Iterator[Seen]:
    """An endpoint without a version of its own sends the account's, which Stripe's list shows."""
    newest = next((each for each in events if each["type"] in HANDLERS), None)
    if newest and not is_readable(newest.get("api_version")):
        yield Seen("webhook_api_version", f"The account's events are of the version {newest.get('api_version')}.")


def _delivering_since(site: Runtime) -> datetime | None:
    """What is older than the endpoint was not for it, nor what was created in its first moments."""
    enabled = [each for each in _ours(site, site.stripe.webhook_endpoints().value) if each.get("status") == "enabled"]
    if not enabled:
        return None
    made_at = min(_created(each) for each in enabled) + timedelta(minutes=1)
    return max(made_at, site.clock() - LOOKED_BACK)


def look_at_secrets(site: Runtime) -> Iterator[Seen]:
    """When each webhook secret last verified a delivery, by its place in the list."""
    marks = [mark_of(secret) for secret in site.settings.stripe_webhook_secrets]
    secrets, verified = len(marks), _last_verified()
    last = {index: verified[mark] for index, mark in enumerate(marks) if mark in verified}
    if not verified:
        yield fine("No webhook was delivered lately, so nothing is known of the webhook secrets.")
        return
    if last:
        newest = max(last, key=lambda index: last[index])
        yield fine(f"Webhook secret {newest + 1} of {secrets} verified last, at {last[newest]:%Y-%m-%dT%H:%M:%SZ}.")
    for index in range(secrets):
        if index not in last:
            yield Seen(
                "webhook_secret_unused",
                f"Webhook secret {index + 1} of {secrets} verified none of the newest deliveries.",
            )


def _last_verified() -> dict[str, datetime]:
    """By the secrets' marks: their places say nothing of deliveries before they were changed."""
    last: dict[str, datetime] = {}
    newest = WebhookEvent.objects.only("source", "received_at", "secret_mark").order_by("-received_at", "-id")
    for each in newest.limit(NEWEST).no_cache().batch_size(200):
        if each.source == "delivery" and each.secret_mark:
            last.setdefault(each.secret_mark, each.received_at)
    return last


def _created(raw: dict[str, Any]) -> datetime:
    return datetime.fromtimestamp(raw["created"], UTC)


def _named(endpoints: Sequence[dict[str, Any]]) -> str:
    return " and ".join(each["id"] for each in endpoints)


def _some(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
