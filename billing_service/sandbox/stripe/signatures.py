"""The Stripe-Signature header: one time, one v1 for each secret of the endpoint."""

from __future__ import annotations

import hashlib
import hmac


def signature(body: bytes, secrets: list[str], timestamp: int) -> str:
    signed = str(timestamp).encode() + b"." + body
    proofs = [hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest() for secret in secrets]
    return ",".join([f"t={timestamp}", *(f"v1={proof}" for proof in proofs)])
