"""A holder's turn at a run: phase after phase, until it waits, is over, or is left for the next holder."""

import contextlib
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from ..errors import BillingError, StripeMisconfigured, StripeNotConfigured
from ..observability import log
from ..subscriptions import OF_STRIPE
from ..webhooks.failures import message_of
from .holding import Hold, LostLease, Stop

# Holders in a row that died or failed and got nothing done.
FAILURES = 5
OUTAGE_PAUSE = timedelta(seconds=15)
LONGEST_PAUSE = timedelta(minutes=5)

# Each carries out a phase, as far as it gets; returns when it can be gone on with, None: at once.
Phases = Mapping[str, Callable[[Any, Stop], datetime | None]]


def go_on(hold: Hold[Any, Any], phases: Phases, stop: Stop) -> None:
    """Go on with a run until it waits, is over, or it is time to stop.

    What fails for a bug is raised, after the run was given back.
    """
    try:
        _work(hold, phases, stop)
    except LostLease:
        log.warning(f"{hold.noun}_taken_over", run=str(hold.run.pk))
    except (StripeMisconfigured, StripeNotConfigured) as error:
        with contextlib.suppress(LostLease):
            hold.end("failed", error=f"{error.code}: {error.detail}")
    except OF_STRIPE as error:
        _wait_out(hold, error)
    except BaseException as error:
        _give_back(hold, error)
        raise


def _work(hold: Hold[Any, Any], phases: Phases, stop: Stop) -> None:
    if hold.run.failures >= FAILURES:
        words = hold.run.error or "its process died each time"
        hold.end("failed", error=f"given up after {FAILURES} attempts without progress: {words}")
        return
    hold.begin()
    next_at = None
    while hold.run.active and next_at is None and not stop():
        next_at = phases[hold.run.phase](hold, stop)
        hold.desk.tell(hold.run)
    if hold.run.active:
        hold.release(next_at=next_at)


def _wait_out(hold: Hold[Any, Any], error: BillingError) -> None:
    """Stripe is away or slows us down: nothing is lost but time."""
    outages = _counted(hold, "outages")
    pause = min(OUTAGE_PAUSE * 2 ** min(outages, 6), LONGEST_PAUSE)
    if error.retry_after and not outages:
        pause = timedelta(seconds=max(1.0, error.retry_after))
    log.warning(f"{hold.noun}_waits", run=str(hold.run.pk), code=error.code, seconds=pause.total_seconds())
    hold.release(next_at=hold.desk.clock() + pause, outages=outages + 1, error=f"{error.code}: {error.detail}")


def _give_back(hold: Hold[Any, Any], error: BaseException) -> None:
    if isinstance(error, Exception):
        told = f"{type(error).__name__}: {message_of(error)}"
        failures = _counted(hold, "failures") + 1
        hold.release(next_at=hold.desk.clock() + hold.retry_pause, failures=failures, error=told)
    else:
        hold.release(state="interrupted")


def _counted(hold: Hold[Any, Any], name: str) -> int:
    """As it is stored: a step that was recorded in another's transaction is progress, too."""
    stored = hold.document.objects(id=hold.run.pk).only(name).first()
    return getattr(stored, name) if stored else 0
