"""Dead letters by what they have in common: one group for each fingerprint and type, counted in an index alone."""

from dataclasses import dataclass
from typing import Any

from bson import MinKey
from pymongo.collection import Collection

from ..documents import WebhookEvent

# So many dead letters are counted; past that the groups are those of a part, and the answer says so.
MOST_COUNTED = 500_000
ORDERS = ("count", "newest")
_FIRST = {"count": [("count", -1), ("newest.at", -1)], "newest": [("newest.at", -1), ("count", -1)]}


@dataclass(frozen=True)
class Groups:
    """The first groups, of how many, and how many dead letters are in all of them."""

    items: list[dict[str, Any]]
    total: int
    letters: int
    is_capped: bool


def find_groups(wanted: dict[str, Any], *, order: str, limit: int) -> Groups:
    """Groups of the dead letters that match `wanted` (a filter on the ledger), by `order`: count or newest."""
    match = {"state": "dead", **wanted}
    # The bound on the first key lets the bounds on the second one skip what died at other times.
    match.setdefault("fingerprint", {"$gte": MinKey()})
    index = "dead_organization" if "organization" in wanted else "dead_alike"
    stages: list[dict[str, Any]] = [
        {"$match": match},
        {"$limit": MOST_COUNTED},
        {"$group": _GROUP},
        {"$facet": _facets(order, limit)},
    ]
    (found,) = _collection().aggregate(stages, hint=index)
    (sums,) = found["sums"] or [{"groups": 0, "letters": 0}]
    samples = _samples([each["newest"]["id"] for each in found["groups"]])
    items = [_described(each, samples.get(each["newest"]["id"])) for each in found["groups"]]
    return Groups(items, sums["groups"], sums["letters"], sums["letters"] >= MOST_COUNTED)


_GROUP = {
    "_id": {"fingerprint": "$fingerprint", "type": "$type"},
    "count": {"$sum": 1},
    "first_at": {"$min": "$dead_at"},
    "newest": {"$max": {"at": "$dead_at", "id": "$_id"}},
    "reasons": {"$addToSet": "$reason"},
    "code_versions": {"$addToSet": "$dead_version"},
}


def _facets(order: str, limit: int) -> dict[str, list[dict[str, Any]]]:
    first = dict([*_FIRST[order], ("_id", 1)])
    sums = {"_id": None, "groups": {"$sum": 1}, "letters": {"$sum": "$count"}}
    return {"groups": [{"$sort": first}, {"$limit": limit}], "sums": [{"$group": sums}]}


def _samples(ids: list[Any]) -> dict[Any, str]:
    found = _collection().find({"_id": {"$in": ids}}, {"event_id": 1})
    return {each["_id"]: each["event_id"] for each in found}


def _described(group: dict[str, Any], sample: str | None) -> dict[str, Any]:
    return {
        "fingerprint": group["_id"].get("fingerprint"),
        "type": group["_id"].get("type"),
        "count": group["count"],
        "first_at": group["first_at"],
        "last_at": group["newest"]["at"],
        "sample_event_id": sample,
        "reasons": sorted(each for each in group["reasons"] if each),
        "code_versions": sorted(each for each in group["code_versions"] if each),
    }


def _collection() -> Collection:
    return WebhookEvent._get_collection()
