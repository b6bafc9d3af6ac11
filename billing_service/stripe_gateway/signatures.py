"""Whether a webhook is Stripe's: signature, age and the members that every event has."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import stripe

from ..errors import BadRequest, BadSignature, StripeNotConfigured

THIN = "v2.core.event"

_SECONDS = re.compile(r"[0-9]{1,12}")
_EVENT_ID = re.compile(r"evt_[A-Za-z0-9_]{1,250}")


@dataclass(frozen=True)
class VerifiedEvent:
    """An event as Stripe sent it; `secret_index` is the place of the secret that verified it, None if we asked.

    Places change with a rotation: `secret_mark` is the secret's own.
    """

    event: dict[str, Any]
    secret_index: int | None = None
    secret_mark: str | None = None


def mark_of(secret: str) -> str:
    """What tells a webhook secret from others, and tells nothing of it."""
    return hashlib.sha256(secret.encode()).hexdigest()[:12]


def verify_webhook(
    payload: bytes, header: str, secrets: Sequence[str], *, now: float, tolerance: int = 300
) -> VerifiedEvent:
    """The event in `payload`, proven to be signed with one of `secrets` at most `tolerance` seconds from `now`.

    `now` is Unix seconds. Raises BadSignature, BadRequest for a body that is no event (an unsigned body is not
    looked at), StripeNotConfigured without secrets. The age is the signature's, never the event's: Stripe signs
    each redelivery anew. https://docs.stripe.com/webhooks/signature
    """
    if tolerance <= 0:
        raise ValueError("a tolerance of 0 switches the SDK's age check off; a replayed request must be refused")
    if not secrets:
        raise StripeNotConfigured("No webhook secret is configured: set STRIPE_WEBHOOK_SECRETS.")
    index = _verifying(payload, header, secrets)
    _check_age(header, now, tolerance)
    return VerifiedEvent(_event(payload), index, mark_of(secrets[index]))


def _verifying(payload: bytes, header: str, secrets: Sequence[str]) -> int:
    # The SDK compares text, which hmac.compare_digest and UTF-8 allow only for what passes here.
    if not header or not header.isascii():
        raise BadSignature("The Stripe-Signature header is missing or unreadable.")
    try:
        text = payload.decode()
    except UnicodeDecodeError as error:
        raise BadSignature("The body is not UTF-8, so Stripe cannot have signed it.") from error
    for index, secret in enumerate(secrets):
        try:
            # Tolerance None: the SDK's check accepts any time in the future, and reads its own clock.
            stripe.WebhookSignature.verify_header(text, header, secret, tolerance=None)
            return index
        except stripe.SignatureVerificationError:
            continue
    raise BadSignature("The Stripe-Signature header matches no configured webhook secret.")


def _check_age(header: str, now: float, tolerance: int) -> None:
    # The first item whose name is exactly `t` is the one that the SDK has found to be signed; reading another
    # one ("v1=…" beside " t=now,t=old") would let an old request pass as new.
    signed_at = next((item[2:] for item in header.split(",") if item.startswith("t=")), "")
    if not _SECONDS.fullmatch(signed_at):
        raise BadSignature("The Stripe-Signature header has no readable time.")
    seconds = now - int(signed_at)
    if abs(seconds) > tolerance:
        side = "ago" if seconds > 0 else "in the future"
        raise BadSignature(f"The signature was made {abs(seconds):.0f} s {side}; {tolerance} s are allowed.")


def _event(payload: bytes) -> dict[str, Any]:
    try:
        event = json.loads(payload, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise BadRequest("The body is not JSON.") from error
    if not isinstance(event, dict):
        raise BadRequest("The body is not a JSON object.")
    problems = [name for name, holds in _members(event).items() if not holds]
    if problems:
        raise BadRequest(f"The body is not a Stripe event: {', '.join(problems)} missing or of the wrong kind.")
    return event


def _members(event: dict[str, Any]) -> dict[str, bool]:
    created, data = event.get("created"), event.get("data")
    members = {
        "id": isinstance(event.get("id"), str) and _EVENT_ID.fullmatch(event["id"]) is not None,
        "type": isinstance(event.get("type"), str) and 0 < len(event["type"]) <= 200,
    }
    if event.get("object") == THIN:  # no data, and `created` is a text
        return members
    return members | {
        "created": isinstance(created, int) and not isinstance(created, bool) and 0 <= created < 2**40,
        "data.object": isinstance(data, dict) and isinstance(data.get("object"), dict),
    }


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
