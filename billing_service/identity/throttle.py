"""Failed sign-ins slow down the next ones, in all processes: each attempt is claimed in MongoDB before it is tried."""

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from ..documents import LoginThrottle
from ..errors import LoginThrottled

# So many may fail without a delay; then a second, doubling to LONGEST_DELAY.
FREE_FOR_EMAIL, FREE_FOR_ADDRESS = 5, 20
LONGEST_DELAY = timedelta(minutes=5)
REMEMBERED = timedelta(days=1)
# An address that has signed in is not held up by what others do with the same e-mail.
KNOWN = timedelta(days=30)


@dataclass(frozen=True)
class Attempt:
    """An attempt that was let through: the keys it counts against."""

    email: str
    address: str
    pair: str
    is_known: bool


def claim(email: str, address: str, *, key: str, now: datetime) -> Attempt:
    """Count an attempt as failed before it is made, so that many at once get no more than one by one.

    What is stored are digests by `key`: neither e-mails nor addresses. Raises LoginThrottled.
    """
    pair = _digest(key, "pair", email, address)
    is_known = LoginThrottle.objects(key=pair, known_until__gt=now).first() is not None
    attempt = Attempt(_digest(key, "email", email), _digest(key, "address", address), pair, is_known)
    if is_known:
        _take(attempt.pair, FREE_FOR_EMAIL, now)
    else:
        _take(attempt.address, FREE_FOR_ADDRESS, now)
        try:
            _take(attempt.email, FREE_FOR_EMAIL, now)
        except LoginThrottled:  # no guess was made
            _give_back(attempt.address, now)
            raise
    return attempt


def succeeded(attempt: Attempt, now: datetime) -> None:
    """Forget the failures of whoever signed in and know the address from now on.

    Those of the address stay, less this one: a user of one's own does not buy guesses at others.
    """
    known = {"failures": 0, "next_at": now, "known_until": now + KNOWN, "expires_at": now + KNOWN}
    _rows().update_one({"_id": attempt.pair}, {"$set": known}, upsert=True)
    if not attempt.is_known:
        _rows().delete_one({"_id": attempt.email})
        _give_back(attempt.address, now)


def forget_email(email: str, *, key: str) -> None:
    """Let the e-mail be tried again at once, from everywhere."""
    _rows().delete_one({"_id": _digest(key, "email", email)})


def _give_back(name: str, now: datetime) -> None:
    _rows().update_one({"_id": name}, {"$inc": {"failures": -1}, "$set": {"next_at": now}})


def _take(name: str, free: int, now: datetime) -> None:
    for _ in range(5):
        try:
            _rows().find_one_and_update(
                {"_id": name, "next_at": {"$lte": now}},
                _one_more(free, now),
                upsert=True,
                return_document=ReturnDocument.AFTER,
            )
            return
        except DuplicateKeyError:  # its time has not come, or another attempt was the first at the same moment
            row = LoginThrottle.objects(key=name).first()
        if row is not None and row.next_at > now:
            break
    wait = max(1.0, (row.next_at - now).total_seconds()) if row else 1.0
    raise LoginThrottled("Signing in failed too often. Wait, then try again.", retry_after=wait)


def _one_more(free: int, now: datetime) -> list[dict[str, Any]]:
    """The update that counts an attempt; what was last counted long ago counts no more."""
    lately = {"$gt": ["$expires_at", now]}
    counted = {"$add": [{"$cond": [lately, {"$ifNull": ["$failures", 0]}, 0]}, 1]}
    seconds = {
        "$min": [LONGEST_DELAY.total_seconds(), {"$pow": [2, {"$min": [{"$subtract": ["$failures", free]}, 20]}]}]
    }
    delay = {"$cond": [{"$lt": ["$failures", free]}, 0, {"$multiply": [1000, seconds]}]}
    until = {"$max": ["$known_until", {"$add": ["$next_at", int(REMEMBERED.total_seconds() * 1000)]}]}
    return [
        {"$set": {"failures": counted}},
        {"$set": {"next_at": {"$add": [now, delay]}}},
        {"$set": {"expires_at": until}},
    ]


def _rows() -> Any:
    return LoginThrottle._get_collection()


def _digest(key: str, *parts: str) -> str:
    return hmac.new(key.encode(), "\n".join(parts).encode(), hashlib.sha256).hexdigest()
