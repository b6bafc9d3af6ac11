"""Ids as Stripe makes them: a prefix and random letters and digits."""

from __future__ import annotations

import random
import secrets
import string
from collections import Counter

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


class Ids:
    """Whence they come: chance, or for who wants the same ones again a seed: then the n-th of a kind is always it."""

    seed: int | None = None
    counts: Counter = Counter()

    def begin(self, seed: int | None):
        self.seed, self.counts = seed, Counter()

    def choice(self, prefix: str):
        if self.seed is None:
            return secrets.choice
        self.counts[prefix] += 1
        return random.Random(f"{self.seed} {prefix} {self.counts[prefix]}").choice


ids = Ids()


def new_id(kind_or_prefix: str) -> str:
    prefix = PREFIX.get(kind_or_prefix, kind_or_prefix)
    choice, length = ids.choice(prefix), LENGTHS.get(prefix, 23)
    return prefix + "".join(choice(ALPHABET) for _ in range(length))
