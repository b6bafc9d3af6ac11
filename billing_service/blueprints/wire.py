"""What every schema on the wire shares: camelCase names, times in UTC with `Z`, text without tricks."""

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from bson import ObjectId
from flask.json.provider import DefaultJSONProvider
from flask_smorest import Blueprint
from marshmallow import RAISE, Schema, ValidationError, fields, validate
from webargs.flaskparser import FlaskParser
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
from werkzeug.routing import UnicodeConverter

from ..errors import BadRequest, InvalidRequest, TooLarge, UnsupportedMediaType

# Control characters other than tab and newlines, and halves of surrogate pairs, which no store can hold.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


ORG_ID_PATTERN = "^[0-9a-fA-F]{24}$"
EVENT_ID_PATTERN = "^evt_[A-Za-z0-9_]{1,250}$"

LONGEST_BODY = 1024 * 1024
_TOO_LARGE = f"A body has at most {LONGEST_BODY} bytes."


def camel(name: str) -> str:
    """snake_case as camelCase."""
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


class Wire(Schema):
    """The base of all schemas: `org_id` in Python is `orgId` on the wire."""

    def on_bind_field(self, field_name: str, field_obj: Any) -> None:
        field_obj.data_key = field_obj.data_key or camel(field_name)


class Instant(fields.Field):
    """An aware time in UTC, as ISO 8601 with `Z`."""

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> str | None:
        return None if value is None else iso(value)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> datetime:
        try:
            parsed = datetime.fromisoformat(value)
        except (TypeError, ValueError) as error:
            raise ValidationError("is not an ISO 8601 time") from error
        if parsed.tzinfo is None:
            raise ValidationError("lacks its offset; use Z for UTC")
        try:
            return parsed.astimezone(UTC)
        except OverflowError as error:
            raise ValidationError("is out of range") from error


def iso(value: datetime) -> str:
    """A time as ISO 8601 in UTC with `Z` and milliseconds."""
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class FieldName(fields.String):
    """The name of a field, as it is spelled on the wire: `organization.plan`, `stripePlan`."""

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> str | None:
        return None if value is None else ".".join(camel(part) for part in value.split("."))


class OrgId(fields.Field):
    """An organization's id: 24 hexadecimal characters."""

    def __init__(self, **kwargs: Any):
        super().__init__(**({"metadata": {"pattern": ORG_ID_PATTERN}} | kwargs))

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> str | None:
        return None if value is None else str(value)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> ObjectId:
        return parse_org_id(value)


def parse_object_id(value: Any) -> ObjectId:
    """Read an id that MongoDB gave; raises ValidationError."""
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-fA-F]{24}", value):
        raise ValidationError("must be 24 hexadecimal characters")
    return ObjectId(value)


def parse_org_id(value: Any) -> ObjectId:
    """Read an organization id; raises ValidationError."""
    return parse_object_id(value)


class ObjectIdField(fields.Field):
    """An id that MongoDB gave: 24 hexadecimal characters."""

    def __init__(self, **kwargs: Any):
        kwargs["metadata"] = {"pattern": ORG_ID_PATTERN} | kwargs.get("metadata", {})
        super().__init__(**kwargs)

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> str | None:
        return None if value is None else str(value)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> ObjectId:
        return parse_object_id(value)


class EventId(fields.String):
    """The id of a Stripe event: `evt_…`."""

    def __init__(self, **kwargs: Any):
        words = "must be evt_ followed by letters, digits or underscores"
        super().__init__(validate=[validate.Regexp(EVENT_ID_PATTERN, error=words), one_line], **kwargs)


def plain_text(value: str) -> None:
    """Refuse control characters and broken Unicode."""
    if _UNPRINTABLE.search(value):
        raise ValidationError("contains control characters or broken Unicode")


def text(*, most: int, least: int = 1, **kwargs: Any) -> fields.String:
    """A string of bounded length without control characters."""
    return fields.String(validate=[validate.Length(min=least, max=most), plain_text], **kwargs)


def stripe_id(*prefixes: str, **kwargs: Any) -> fields.String:
    """The id of a Stripe object, such as `sub_…`."""
    # `$` also matches before a last newline, but it is the only end that ECMA's patterns know.
    pattern = rf"^({'|'.join(prefixes)})_[A-Za-z0-9_]{{1,200}}$"
    return fields.String(validate=[validate.Regexp(pattern), one_line], **kwargs)


def one_line(value: str) -> None:
    if "\n" in value:
        raise ValidationError("contains a newline")


def one_of(choices: Iterable[str], **kwargs: Any) -> fields.String:
    """One of a fixed set of words."""
    return fields.String(validate=validate.OneOf(list(choices)), **kwargs)


class Json(DefaultJSONProvider):
    """Flask's JSON with our times and ids."""

    sort_keys = False

    @staticmethod
    def default(value: Any) -> Any:
        if isinstance(value, datetime):
            return iso(value)
        if isinstance(value, ObjectId):
            return str(value)
        return DefaultJSONProvider.default(value)


def whole_body(req: Any) -> bytes:
    """The request's body as the client sent it, all of it. Raises TooLarge and BadRequest.

    A body that ended early must not be taken for a shorter one: nothing at all means `{}`, the defaults.
    """
    # Werkzeug cuts a body without a length (chunked) at the limit and says nothing; one byte more tells.
    req.max_content_length = LONGEST_BODY + 1
    try:
        content = req.get_data(cache=True)
    except RequestEntityTooLarge as error:
        raise TooLarge(_TOO_LARGE) from error
    except Exception as error:  # the server's own, when chunks are malformed; whatever it is, nothing was read
        said = error.description if isinstance(error, HTTPException) else str(error)
        raise BadRequest(f"The body did not arrive whole; send it again. {said}"[:300]) from error
    if len(content) > LONGEST_BODY:
        raise TooLarge(_TOO_LARGE)
    # Gunicorn ends the stream where the client hung up, so Werkzeug does not notice.
    if req.content_length is not None and len(content) != req.content_length:
        arrived = f"{len(content)} of {req.content_length} bytes"
        raise BadRequest(f"The body did not arrive whole: {arrived}. Nothing was done; send it again.")
    return content


def _single(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Of a key that is there twice, a proxy or a log may read the other one.
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the key {name!r} is there twice")
        found[name] = value
    return found


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


class Parser(FlaskParser):
    """Reads arguments strictly: a typo in a filter or a body of another type must not be a silent no-op."""

    DEFAULT_UNKNOWN_BY_LOCATION: dict[str, str | None] = FlaskParser.DEFAULT_UNKNOWN_BY_LOCATION | {"query": RAISE}

    def load_querystring(self, req: Any, schema: Any) -> Any:
        repeated = {name: ["is there more than once"] for name, values in req.args.lists() if len(values) > 1}
        if repeated:
            raise InvalidRequest("A query parameter is there more than once.", errors=repeated)
        return super().load_querystring(req, schema)

    def load_json(self, req: Any, schema: Any) -> Any:
        content = whole_body(req)
        if not content:
            return {}
        if not req.is_json:
            raise UnsupportedMediaType("Send the body as application/json.")
        try:
            body = json.loads(content, object_pairs_hook=_single, parse_constant=_no_number)
        except (ValueError, RecursionError) as error:
            raise BadRequest(f"The body is not JSON that can be read: {str(error)[:200]}") from error
        if not isinstance(body, dict):
            raise BadRequest("The body must be a JSON object.")
        return body


class ApiBlueprint(Blueprint):
    """A blueprint whose arguments are read strictly."""

    ARGUMENTS_PARSER = Parser()


class OrgIdConverter(UnicodeConverter):
    """An organization id in a path; malformed ones reach the guard, which refuses them by name."""


class Page(Wire):
    """The envelope of every list."""

    total = fields.Integer(metadata={"description": "counted up to 10,000"})
    total_is_capped = fields.Boolean()
    limit = fields.Integer()
    next_cursor = fields.String(allow_none=True)


class PageQuery(Wire):
    """What every list takes."""

    limit = fields.Integer(load_default=20, validate=validate.Range(min=1, max=100))
    cursor = text(most=200)


class DryRunQuery(Wire):
    """What every mutation takes in its query."""

    dry_run = fields.Boolean(load_default=False, metadata={"description": "write nothing, answer what would change"})


class MutationHeaders(Wire):
    """What every mutation takes in its headers."""

    idempotency_key = fields.String(
        data_key="Idempotency-Key",
        validate=[validate.Length(max=255), validate.Regexp(r"^[\x21-\x7e]+$"), one_line],
        metadata={"description": "the same key and body within 24 hours give the same answer"},
    )


class NoteBody(Wire):
    """What every mutation takes in its body."""

    note = text(most=1000, metadata={"description": "why; kept in the audit log"})


__all__ = [
    "ApiBlueprint",
    "DryRunQuery",
    "EventId",
    "FieldName",
    "Instant",
    "Json",
    "MutationHeaders",
    "NoteBody",
    "ObjectIdField",
    "OrgId",
    "Page",
    "PageQuery",
    "Wire",
    "camel",
    "iso",
    "one_of",
    "parse_object_id",
    "parse_org_id",
    "plain_text",
    "stripe_id",
    "text",
    "whole_body",
]
