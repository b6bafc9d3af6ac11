"""The one door to Stripe: nothing outside this package imports its SDK or knows its exceptions.

`StripeGateway` calls (client), each call is a few attempts (attempts) under a budget (budget, bucket) and a
circuit (circuit), over one HTTP client (transport); failures become the service's own (translation) and
answers small values (shapes; glances where thousands are compared). `verify_webhook` checks what Stripe sends
(signatures), `RIGHTS`, `try_right` and `find_price` are what the doctor looks at (inspection).
"""

from .client import StripeGateway
from .connection import API_VERSION
from .glances import Glance, ListedSubscription
from .inspection import RIGHTS, LivePrice, Right, find_price, is_key_refused, try_right
from .shapes import (
    LiveCharge,
    LiveCheckoutSession,
    LiveCustomer,
    LiveDispute,
    LiveItem,
    LiveRefund,
    LiveSubscription,
    Read,
)
from .signatures import VerifiedEvent, mark_of, verify_webhook

__all__ = [
    "API_VERSION",
    "RIGHTS",
    "Glance",
    "ListedSubscription",
    "LiveCharge",
    "LiveCheckoutSession",
    "LiveCustomer",
    "LiveDispute",
    "LiveItem",
    "LivePrice",
    "LiveRefund",
    "LiveSubscription",
    "Read",
    "Right",
    "StripeGateway",
    "VerifiedEvent",
    "find_price",
    "is_key_refused",
    "mark_of",
    "try_right",
    "verify_webhook",
]
