"""What waits: unhandled events, dead letters, and types whose handling is paused."""

from collections.abc import Iterator

from ..overview import describe_events
from ..runtime import Runtime
from .findings import Seen, fine

LATE_SECONDS = 300
STUCK_SECONDS = 3_600


def look_at_events(site: Runtime) -> Iterator[Seen]:
    """The oldest event without an end, dead letters, pauses."""
    told = describe_events(site.clock())
    oldest = told["oldest_unhandled"]
    if oldest and oldest["age"] >= LATE_SECONDS:
        code = "events_stuck" if oldest["age"] >= STUCK_SECONDS else "events_late"
        words = f"{oldest['event_id']} ({oldest['type']}) is {oldest['state']}"
        yield Seen(code, f"{words} and has waited for {oldest['age'] // 60} minutes.")
    else:
        yield fine("No event waits for long.")
    if told["dead_letters"]:
        many = f"{told['dead_letters']}{' or more' if told['dead_letters_are_capped'] else ''}"
        yield Seen("dead_letters", f"{many} dead letter(s), the newest of {told['newest_dead_at']:%Y-%m-%dT%H:%M:%SZ}.")
    else:
        yield fine("There are no dead letters.")
    for each in told["paused"]:
        what, since = each["type"] or "all events", f"{each['since']:%Y-%m-%dT%H:%M:%SZ}"
        yield Seen("dispatch_paused", f"{what}: paused since {since} by {each['by']}; {each['waiting']} wait.")
