"""Secrets that stand in files: the variable with `_FILE` behind a secret's name says where."""

from collections.abc import Iterable, Mapping
from pathlib import Path

FILE_BYTES = 64 * 1024


def read_secrets(environ: Mapping[str, str], names: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
    """The variables that are set, the named ones from their files if need be; and for each that was not read, why."""
    given = {key: value for key, value in environ.items() if value.strip()}
    unread: dict[str, str] = {}
    for name in names:
        path = given.pop(f"{name}_FILE", None)
        if path is None:
            continue
        if name in given:
            unread[name] = f"{name}, {name}_FILE: only one of the two may be set"
            continue
        try:
            given[name] = _content(Path(path))
        except (OSError, ValueError) as error:
            # Neither the path, which may be the secret itself by mistake, nor the file's content is told.
            why = error.strerror if isinstance(error, OSError) else "it is empty, too large or no UTF-8 text"
            unread[name] = f"{name}_FILE: the file that it names cannot be used: {why}"
    return given, unread


def _content(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(FILE_BYTES + 1)
    text = content.decode().rstrip("\r\n")
    if not text.strip() or len(content) > FILE_BYTES:
        raise ValueError
    return text
