"""Lists as CSV: all that a filter matches, newest first, streamed row by row."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from flask import Response, stream_with_context
from marshmallow import Schema, ValidationError, validates_schema

from ..runtime import runtime
from .naming import named_stream
from .paging import newest_first
from .wire import Json, PageQuery, one_of

BATCH = 500
# A spreadsheet would take such a text for a formula and run it.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class ExportQuery(PageQuery):
    """What a list takes that can be downloaded."""

    format = one_of(
        ("json", "csv"),
        load_default="json",
        metadata={"description": "csv: all that matches, as a file; limit and cursor do not go with it"},
    )

    @validates_schema(pass_original=True)
    def _whole(self, query: dict[str, Any], original: Any, **kwargs: Any) -> None:
        for name in ("limit", "cursor"):
            if query.get("format") == "csv" and name in original:
                raise ValidationError("does not go with format=csv, which answers all that matches", name)


def exported(description: str) -> dict[str, Any]:
    """For `blueprint.doc`: the answer 200 may be a CSV file, too."""
    return {"responses": {200: {"content": {"text/csv": {"schema": {"type": "string", "description": description}}}}}}


def as_csv(queryset: Any, *, key: str, schema: Schema, name: str) -> Response:
    """What a list finds as a file, in its order."""
    # A queryset would keep every row that was read.
    rows = newest_first(queryset, key).no_cache().batch_size(BATCH)
    return as_file(named_stream(rows), schema=schema, name=name)


def as_file(rows: Iterable[Any], *, schema: Schema, name: str) -> Response:
    """The rows as a file: a column for each field of `schema`; nested values are JSON.

    A stream that breaks off ends without its last chunk, so that a part is not taken for the whole.
    """
    answer = Response(stream_with_context(_lines(rows, schema)), mimetype="text/csv")
    at = runtime.clock().strftime("%Y%m%dT%H%M%SZ")
    answer.headers["Content-Disposition"] = f'attachment; filename="{name}-{at}.csv"'
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _lines(rows: Iterable[Any], schema: Schema) -> Iterator[str]:
    columns = {str(field.data_key): name for name, field in schema.dump_fields.items()}
    yield line(list(columns))
    for row in rows:
        plain = schema.dump(row)
        yield line([cell(plain.get(column)) for column in columns])


def line(cells: list[Any]) -> str:
    """A line of a CSV file, with its end."""
    written = io.StringIO()
    csv.writer(written).writerow(cells)
    return written.getvalue()


def cell(value: Any) -> Any:
    """A value as a spreadsheet may take it."""
    if isinstance(value, dict | list):
        default: Callable[[Any], Any] = Json.default
        value = json.dumps(value, default=default, ensure_ascii=False)
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
