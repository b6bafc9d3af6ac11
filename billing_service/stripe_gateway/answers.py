"""Paths of single objects, and reading an answer's objects into values: what is no such object is refused."""

import re
from collections.abc import Callable
from typing import Any, TypeVar

from ..errors import StripeRejected
from .attempts import Answer
from .translation import malformed

# What reading a value of another kind raises, too large a time included.
UNREADABLE = (ArithmeticError, AssertionError, AttributeError, LookupError, OSError, TypeError, ValueError)

_ID = re.compile(r"[A-Za-z0-9_-]{1,255}")

Value = TypeVar("Value")


def path_of(collection: str, object_id: str) -> str:
    """The path of one object. Raises StripeRejected."""
    # An empty id would list the collection, ".." would name another one.
    if not _ID.fullmatch(object_id):
        raise StripeRejected("This is not the id of a Stripe object.", param="id")
    return f"/v1/{collection}/{object_id}"


def shaped(raw: Any, read: Callable[[dict], Value], kind: str, answer: Answer, writes: bool) -> Value:
    """An object of that kind, read; raises what `malformed` makes of anything else."""
    try:
        if raw["object"] != kind:
            raise ValueError(raw["object"])
        return read(raw)
    except UNREADABLE as error:
        raise malformed(f"it is no {kind}", writes=writes, request_id=answer.request_id) from error
