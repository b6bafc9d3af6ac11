"""What is sent of a signal: JSON for programs, words for people, and the signature."""

import hashlib
import hmac
import json
import re
from datetime import UTC, datetime
from typing import Any

from ..documents import OutboxSignal
from .audiences import KINDS

SIGNATURE_HEADER = "Billing-Signature"
LONGEST_TEXT = 3000
_FIELD = re.compile(r"[a-z][a-z0-9_]*")
# What Slack takes for markup; an organization's name must not call a whole channel.
_SLACK = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def message_of(row: OutboxSignal) -> dict[str, Any]:
    """The signal as it is told; the same at each sending, so that a receiver knows it again by `id`."""
    return {
        "id": str(row.pk),
        "name": row.name,
        "orgId": str(row.organization) if row.organization else None,
        "createdAt": _plain(row.created_at),
        "version": row.version,
        "facts": _plain(row.facts),
    }


def as_json(message: dict[str, Any]) -> bytes:
    """The body for programs."""
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()


def as_words(message: dict[str, Any]) -> bytes:
    """The body for Slack, `{"text": …}`: what happened, then the facts a line each."""
    facts = {"orgId": message["orgId"], **message["facts"], "signal": message["id"]}
    lines = [f"{name}: {_flat(value)}" for name, value in facts.items() if value is not None]
    text = "\n".join([f"{message['name']}: {KINDS[message['name']].words}", *lines])
    return json.dumps({"text": text[:LONGEST_TEXT].translate(_SLACK)}, ensure_ascii=False).encode()


def signature(body: bytes, secret: str, at: datetime) -> str:
    """The header's value: `t=<Unix seconds>,v1=<hex of HMAC-SHA256 over "<t>.<body>">`."""
    stamp = int(at.timestamp())
    proof = hmac.new(secret.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={stamp},v1={proof}"


def _flat(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else str(value)


def _plain(value: Any) -> Any:
    """A value as JSON has it: keys in camelCase, times in UTC with `Z`, ids as text."""
    if isinstance(value, dict):
        return {_camel(name): _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return value if value is None or isinstance(value, (str, bool, int, float)) else str(value)


def _camel(name: str) -> str:
    if not _FIELD.fullmatch(name):  # no field but a datum, such as an event's type
        return name
    head, *rest = name.split("_")
    return head + "".join(word[:1].upper() + word[1:] for word in rest)
