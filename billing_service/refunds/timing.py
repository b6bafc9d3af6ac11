"""When a refund of which nobody knows is looked after again."""

from datetime import timedelta

# While it is younger than the first, each time after the second. At the end only an event or a repeat of the id tells.
PACE = (
    (timedelta(hours=1), timedelta(minutes=1)),
    (timedelta(hours=20), timedelta(minutes=10)),
    (timedelta(days=3), timedelta(hours=1)),
    (timedelta(days=30), timedelta(days=1)),
)


def pause_after(age: timedelta) -> timedelta | None:
    """The pause before the next look at a refund that was sent so long ago; None: no more."""
    return next((pause for until, pause in PACE if age < until), None)
