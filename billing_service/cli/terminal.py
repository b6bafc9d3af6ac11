"""What commands that read the ledger share: options that are checked as the API checks them, words for a terminal."""

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import wraps
from typing import Any

import click


def checked(field: Callable[[], Any]) -> Callable[..., Any]:
    """An option's callback that reads the value with one of the API's fields; made when it is needed."""

    def read(context: click.Context, parameter: click.Parameter, value: str | None) -> Any:
        from marshmallow import ValidationError

        if value is None:
            return None
        try:
            return field().deserialize(value)
        except ValidationError as error:
            raise click.BadParameter("; ".join(map(str, error.messages))) from error

    return read


def _organization_id() -> Any:
    from ..blueprints.wire import OrgId

    return OrgId()


def _event_id() -> Any:
    from ..blueprints.wire import EventId

    return EventId()


def _note() -> Any:
    from ..blueprints.wire import text

    return text(most=1000)


organization = checked(_organization_id)
event = checked(_event_id)
note = checked(_note)


def refusals_told(command: Callable[..., Any]) -> Callable[..., Any]:
    """Tell a refusal in words and end with 1."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        from ..documents import STORE_ERRORS, denial_of
        from ..errors import BillingError

        try:
            return command(*args, **kwargs)
        except BillingError as refusal:
            click.echo(f"{refusal.code}: {refusal.detail}", err=True)
        except STORE_ERRORS as error:
            click.echo(f"store_unavailable: the database does not answer ({type(error).__name__})", err=True)
        except Exception as error:
            if not (denial := denial_of(error)):
                raise
            click.echo(f"store_unavailable: the database denies access ({denial}); correct MONGODB_URI", err=True)
        sys.exit(1)

    return run


def plain(value: Any) -> str:
    """A value in one line, without what a terminal would obey."""
    return "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in str(value))


def moment(at: datetime | None) -> str:
    """A time in UTC to the second."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if at else "-"


def span(seconds: float) -> str:
    """A duration in its largest unit: `3h`."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= length:
            return f"{int(seconds // length)}{unit}"
    return f"{int(seconds)}s"


def error_words(history: Any) -> str:
    """The last error of an event's history in one line; nothing if there is none."""
    from ..webhooks import masking, reading

    line = reading.last_error(history)
    return plain(f"{line.error_class}: {masking.words(line.error_message)}") if line else ""


def organization_words(row: Any) -> str:
    """Whose it is, by id and by the name that `named` put beside it."""
    return f"org {row.organization or '-'}{f' {row.org_name}' if row.org_name else ''}"
