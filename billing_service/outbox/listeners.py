"""Listeners in the process that sends, which is the worker: `listeners.signal("plan_changed").connect(function)`."""

from typing import Any

from blinker import ANY, NamedSignal, Namespace

from ..observability import log
from .audiences import KINDS

_signals = Namespace()


def signal(name: str) -> NamedSignal:
    """The named signal to connect a function to; it is called with the message, the webhooks' JSON as a dict.

    Raises ValueError for a name that is never sent. blinker holds functions weakly: keep a reference.
    """
    if name not in KINDS:
        raise ValueError(f"there is no signal {name!r}; there are {', '.join(sorted(KINDS))}")
    return _signals.signal(name)


def tell(message: dict[str, Any]) -> None:
    """Call everybody who listens; one that raises is logged and changes nothing, for the others neither."""
    for listener in signal(message["name"]).receivers_for(ANY):
        try:
            listener(message)
        except Exception as error:
            log.error("listener_failed", signal=message["name"], signal_id=message["id"], exc_info=error)
