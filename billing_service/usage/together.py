"""Usage that arrives at the same time in one process: one transaction for all of it that is plain.

Plain is what the week's quota covers, under keys that are new, of who has no extras that are over. All else is recorded
alone, and tells of its own errors.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from bson import ObjectId
from pymongo import UpdateOne
from pymongo.errors import BulkWriteError

from .. import extras
from ..documents import STORE_ERRORS, ExtraBalance, UsageRecord, UsageWeek, in_transaction
from ..group_commit import GroupCommit
from ..observability import log
from .measured import MOST_NAMES, Usage, recorded

Ends = list[UsageRecord | None]


def _record_all(usages: Sequence[Usage]) -> Ends:
    """The record of each, None if it has to be recorded alone. Raises STORE_ERRORS."""
    try:
        return in_transaction(partial(_write, usages))
    except STORE_ERRORS:
        raise
    except BulkWriteError:  # a key that was used before
        return [None] * len(usages)
    except Exception as error:  # whoever is to blame is found alone
        log.warning("usage_not_recorded_together", error=f"{type(error).__name__}: {error}"[:500])
        return [None] * len(usages)


def _write(usages: Sequence[Usage]) -> Ends:
    weeks = _weeks(usages)
    ended = _with_ended_extras(usages, weeks.values())
    moved: dict[ObjectId, Counter] = defaultdict(Counter)
    ends: Ends = []
    keys = set()
    for usage in usages:
        week, key = weeks.get((usage.organization, usage.week)), (usage.organization, usage.key)
        seen = key in keys or usage.organization in ended
        if week is None or seen or week["used"] + usage.units > week["quota"]:
            ends.append(None)
            continue
        keys.add(key)
        moved[week["_id"]] += _count(week, usage)
        told = {"quota": week["quota"], "used": week["used"], "extras": sum(each["units"] for each in week["balance"])}
        ends.append(recorded(usage, within=usage.units, **told))
    if records := [each.to_mongo() for each in ends if each]:
        # What others have written of a week since it was read conflicts here, and all of it starts over.
        writes = [UpdateOne({"_id": week}, {"$inc": dict(counts)}) for week, counts in moved.items()]
        UsageWeek._get_collection().bulk_write(writes, ordered=False)
        UsageRecord._get_collection().insert_many(records)
    return ends


def _weeks(usages: Sequence[Usage]) -> dict[tuple[ObjectId, str], dict[str, Any]]:
    """The weeks that have a quota, each with its organization's balance of extras, if there is one."""
    held = {
        "organization": {"$in": list({usage.organization for usage in usages})},
        "week": {"$in": list({usage.week for usage in usages})},
        "quota": {"$gte": 0},
    }
    balances = {"from": ExtraBalance._get_collection_name(), "as": "balance"}
    beside = {"$lookup": balances | {"localField": "organization", "foreignField": "_id"}}
    found = UsageWeek._get_collection().aggregate([{"$match": held}, beside])
    return {(each["organization"], each["week"]): each for each in found}


def _with_ended_extras(usages: Sequence[Usage], weeks: Iterable[dict[str, Any]]) -> set[ObjectId]:
    """Whose extras have ended and are not booked out yet: recording alone does that first."""
    held = {week["organization"] for week in weeks for each in week["balance"] if each["units"] > 0}
    asked = [usage for usage in usages if usage.metered and usage.organization in held]
    if not asked:
        return set()
    ended = extras.find_ended({usage.organization for usage in asked}, max(usage.at for usage in asked))
    return set(ended.scalar("organization"))


def _count(week: dict[str, Any], usage: Usage) -> Counter:
    """Count the units on the week as it was read; returns what that moves of the stored one."""
    week["used"] += usage.units
    moved, named = Counter({"used": usage.units}), week.setdefault("breakdown", {})
    for name, units in usage.breakdown.items():
        if name in named or len(named) < MOST_NAMES:
            named[name] = named.get(name, 0) + units
            moved[f"breakdown.{name}"] = units
    return moved


together: GroupCommit[Usage, UsageRecord | None] = GroupCommit(_record_all)
