"""Events of the population's subscriptions, as Stripe signs them, made ahead of their use."""

import hashlib
import hmac
import itertools
import json
import time
import uuid
from dataclasses import dataclass, field

from .population import Population

SECRET = "whsec_of_the_benchmarks_0123456789"

_EVENT, _CREATED, _INDEX, _ORGANIZATION = "evt_@event@", 4_102_444_800, "@index@", "@organization@"


@dataclass
class Mint:
    """Makes customer.subscription.updated events; each id is used once, also by several processes."""

    population: Population
    template: bytes = b""
    numbers: itertools.count = field(default_factory=itertools.count)
    run: str = field(default_factory=lambda: uuid.uuid4().hex[:10])

    def __post_init__(self) -> None:
        self.template = self.template or _template(self.population)

    def event(self, index: int, created: float) -> tuple[str, bytes]:
        """The id and the body of an event of the subscription with this index, created then (Unix seconds)."""
        event_id = f"evt_{self.run}{next(self.numbers):010d}"
        values = {
            b"event": event_id.encode(),
            b"created": b"%d" % int(created),
            b"index": b"%08d" % index,
            b"organization": str(self.population.org_id(index)).encode(),
        }
        return event_id, self.template % values


def header(body: bytes, secret: str = SECRET) -> str:
    """The Stripe-Signature header of the body."""
    stamp = int(time.time())
    mac = hmac.new(secret.encode(), b"%d." % stamp + body, hashlib.sha256).hexdigest()
    return f"t={stamp},v1={mac}"


def _template(population: Population) -> bytes:
    """The first subscription in an event, printed as Stripe prints, with %-places for what differs."""
    event = {
        "id": _EVENT,
        "object": "event",
        "api_version": "2026-10-28.endive",
        "created": _CREATED,
        "data": {"object": population.sample, "previous_attributes": {"quantity": 1}},
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": "req_bench", "idempotency_key": str(uuid.uuid4())},
        "type": "customer.subscription.updated",
    }
    text = json.dumps(event, indent=2).replace("%", "%%")
    places = {
        _EVENT: "%(event)s",
        str(_CREATED): "%(created)s",
        f"{population.batch:02d}{0:08d}": f"{population.batch:02d}%(index)s",
        str(population.org_id(0)): "%(organization)s",
    }
    for written, place in places.items():
        text = text.replace(written, place)
    return text.encode()
