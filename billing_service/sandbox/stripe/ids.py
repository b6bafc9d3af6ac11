"""Ids as Stripe makes them: a prefix and random letters and digits."""

from __future__ import annotations

import secrets
import string

ALPHABET = string.ascii_letters + string.digits
LENGTHS = {"cs_test_a1": 56, "cus_": 14, "prod_": 14, "si_": 14, "req_": 14, "whsec_": 32}

PREFIX = {
    "customer": "cus_",
    "product": "prod_",
    "price": "price_1",
    "subscription": "sub_1",
    "subscription_item": "si_",
    "subscription_schedule": "sub_sched_1",
    "invoice": "in_1",
    "line_item": "il_1",
    "invoice_payment": "inpay_1",
    "payment_intent": "pi_3",
    "charge": "ch_3",
    "refund": "re_3",
    "dispute": "du_1",
    "balance_transaction": "txn_1",
    "checkout.session": "cs_test_a1",
    "item": "li_1",
    "event": "evt_1",
    "webhook_endpoint": "we_1",
}


def new_id(kind_or_prefix: str) -> str:
    prefix = PREFIX.get(kind_or_prefix, kind_or_prefix)
    length = LENGTHS.get(prefix, 23)
    return prefix + "".join(secrets.choice(ALPHABET) for _ in range(length))
