"""Lists newest first with an opaque cursor; the total is counted up to a cap."""

import base64
import json
from datetime import UTC, datetime
from typing import Any

from bson import ObjectId
from mongoengine.queryset.visitor import Q

from ..errors import InvalidRequest

TOTAL_CAP = 10_000


def page(queryset: Any, *, key: str, limit: int, cursor: str | None, number: int = 1) -> dict[str, Any]:
    """One page of `queryset` by the time field `key` and id, both descending: the `number`th after the cursor."""
    total = queryset.limit(TOTAL_CAP + 1).count(with_limit_and_skip=True)
    wanted = queryset
    if cursor:
        at, last_id = _read(cursor)
        # The plain bound is for the planner: of an `or` beside other conditions it would read all from the newest on.
        below = Q(**{f"{key}__lt": at}) | (Q(**{key: at}) & Q(id__lt=last_id))
        wanted = queryset.filter(Q(**{f"{key}__lte": at}) & below)
    rows = list(newest_first(wanted, key).skip((number - 1) * limit).limit(limit + 1))
    more = len(rows) > limit
    rows = rows[:limit]
    return {
        "items": rows,
        "total": min(total, TOTAL_CAP),
        "total_is_capped": total > TOTAL_CAP,
        "limit": limit,
        "next_cursor": _write(getattr(rows[-1], key), rows[-1].pk) if more else None,
    }


def newest_first(queryset: Any, key: str) -> Any:
    """The order of all lists: by the time field `key` and id, both descending."""
    return queryset.order_by(f"-{key}", "-id")


def _write(at: datetime, last_id: ObjectId) -> str:
    content = json.dumps([round(at.timestamp() * 1000), str(last_id)])
    return base64.urlsafe_b64encode(content.encode()).decode()


def _read(cursor: str) -> tuple[datetime, ObjectId]:
    try:
        milliseconds, text = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        at = datetime.fromtimestamp(milliseconds // 1000, UTC).replace(microsecond=milliseconds % 1000 * 1000)
        last_id = ObjectId(text)
        # Much can be read as a time and an id (`true`, and no id at all makes a new one); ours reads back as it is.
        if _write(at, last_id) != cursor:
            raise ValueError("another spelling")
        return at, last_id
    except Exception as error:  # whatever a forged cursor decodes to, it is not one of ours
        raise InvalidRequest("The cursor is not one that this service gave.", errors={"cursor": ["unknown"]}) from error
