"""The names of organizations beside their ids: people think in names, and lists have only ids."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from marshmallow import fields

from ..documents import Organization

BATCH = 500


class OrgName(fields.String):
    """The name of the organization that `org_id` is the id of, where `named` put it."""

    def __init__(self) -> None:
        metadata = {"description": "null: there is none, or it has no name"}
        super().__init__(allow_none=True, dump_only=True, metadata=metadata)


def named(rows: list[Any]) -> list[Any]:
    """The rows, each with `org_name` beside its `organization`; one read for all of them."""
    wanted = {_organization_of(row) for row in rows} - {None}
    found = Organization.objects(id__in=list(wanted)).only("name").no_cache() if wanted else ()
    names = {each.pk: each.name for each in found}
    for row in rows:
        name = names.get(_organization_of(row))
        if isinstance(row, dict):
            row["org_name"] = name
        else:
            row.org_name = name
    return rows


def named_page(listed: dict[str, Any]) -> dict[str, Any]:
    """The page of a list with the names of its organizations."""
    return listed | {"items": named(listed["items"])}


def named_stream(rows: Iterable[Any]) -> Iterator[Any]:
    """Rows however many, named by one read for each few hundred of them."""
    # A generator, because MongoEngine's cursor begins anew once it has ended.
    left = (row for row in rows)
    while batch := list(islice(left, BATCH)):
        yield from named(batch)


def _organization_of(row: Any) -> Any:
    return row.get("organization") if isinstance(row, dict) else row.organization
