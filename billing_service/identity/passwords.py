"""Passwords: what one must be, its argon2 hash, and a digest for comparing requests. None is ever stored or told."""

import hashlib
import hmac
import secrets
import unicodedata
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from ..errors import InvalidRequest

SHORTEST, LONGEST = 12, 256

# 19 MiB and two passes for each attempt: some 30 ms, and sixteen at once still fit beside the service.
HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)


def hashed(password: str) -> str:
    """The password's argon2id hash, which names its own parameters and salt."""
    return HASHER.hash(_normal(password))


def fits(stored: str | None, password: str) -> bool:
    """Whether the password is the one of the hash; of nobody's (None) it is not, which takes as long to say."""
    decoy = _decoy()  # made whoever is asked for, so that the first answer tells nothing either
    try:
        HASHER.verify(stored or decoy, _normal(password))
    except (VerificationError, InvalidHashError):
        return False
    return stored is not None


def is_outdated(stored: str) -> bool:
    """Whether the hash was made with other parameters than today's."""
    return HASHER.check_needs_rehash(stored)


def refuse_weak(password: str, email: str) -> None:
    """Refuse a password that is the user's name; its length is the schema's business. Raises InvalidRequest."""
    if _normal(password).lower() in (email, email.partition("@")[0]) or len(set(password)) < 5:
        words = "must not be the e-mail address or a few characters repeated"
        raise InvalidRequest("The password is too easy to guess.", errors={"password": [words]})


def digest(password: str, key: str) -> str:
    """What stands for a password where requests are compared; of no use without the service's key."""
    return hmac.new(key.encode(), b"password:" + _normal(password).encode(), hashlib.sha256).hexdigest()


def _normal(password: str) -> str:
    # The same letters, however a keyboard composes them.
    return unicodedata.normalize("NFKC", password)


@cache
def _decoy() -> str:
    return HASHER.hash(secrets.token_urlsafe(32))
