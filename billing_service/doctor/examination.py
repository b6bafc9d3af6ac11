"""The table of checks, and running them: side by side, each with its own time, none in the way of another."""

import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from redis.exceptions import RedisError

from ..documents import STORE_ERRORS
from ..errors import BillingError
from ..runtime import Runtime
from . import at_stripe, configuration, endpoints, prices, processes, stores, waiting
from .findings import Finding, Report, Seen

# With one of these nothing that needs the check can be looked at.
BLOCKING = frozenset(
    {
        "stripe_not_configured",
        "stripe_unreachable",
        "stripe_key_refused",
        "mongodb_unreachable",
        "redis_unreachable",
        "check_failed",
        "check_timed_out",
    }
)


AWAY: tuple[type[Exception], ...] = (RedisError, *STORE_ERRORS)


@dataclass(frozen=True)
class Check:
    """A function that looks at one part, and may take so many seconds. `needs` are checks that must get through."""

    name: str
    look: Callable[[Runtime], Iterable[Seen]]
    needs: tuple[str, ...] = ()
    seconds: float = 20.0


CHECKS = (
    Check("configuration", configuration.look_at_configuration),
    Check("stripe", at_stripe.look_at_stripe, seconds=30),
    Check("mongodb", stores.look_at_mongodb),
    Check("redis", stores.look_at_redis),
    Check("account", at_stripe.look_at_account, ("stripe", "mongodb"), 30),
    Check("rights", at_stripe.look_at_rights, ("stripe",), 60),
    Check("endpoint", endpoints.look_at_endpoint, ("stripe",), 30),
    Check("deliveries", endpoints.look_at_deliveries, ("stripe", "mongodb"), 30),
    Check("secrets", endpoints.look_at_secrets, ("mongodb",)),
    # One request for each price, at the rate that the budget leaves to the background.
    Check("prices", prices.look_at_prices, ("stripe",), 180),
    Check("indexes", stores.look_at_indexes, ("mongodb",)),
    Check("workers", processes.look_at_workers, ("redis",)),
    Check("scheduler", processes.look_at_scheduler, ("redis",)),
    Check("jobs", processes.look_at_jobs, ("mongodb",)),
    Check("events", waiting.look_at_events, ("mongodb",)),
)


def examine(site: Runtime, checks: Iterable[Check] = CHECKS) -> Report:
    """Carry out the checks; writes nothing, here and at Stripe."""
    checks = tuple(checks)
    found = _side_by_side(site, [check for check in checks if not check.needs])
    blocked = {finding.check for finding in found if finding.code in BLOCKING}
    later = [check for check in checks if check.needs]
    found += _side_by_side(site, [check for check in later if not blocked & set(check.needs)])
    for need in sorted(blocked):
        names = [check.name for check in later if need in check.needs]
        if names:
            found.append(Seen("not_checked", f"{', '.join(names)}: {need} is in the way.").finding(need))
    return Report.of(found)


def _side_by_side(site: Runtime, checks: list[Check]) -> list[Finding]:
    results: queue.Queue[tuple[str, list[Seen]]] = queue.Queue()
    began = time.monotonic()
    for check in checks:
        # A thread that never comes back must not keep the process from ending.
        threading.Thread(target=_carry_out, args=(site, check, results), daemon=True, name=check.name).start()
    open_checks = {check.name: check for check in checks}
    found: dict[str, list[Seen]] = {}
    while open_checks:
        name, left = min(
            ((each.name, began + each.seconds - time.monotonic()) for each in open_checks.values()),
            key=lambda pair: pair[1],
        )
        try:
            done, seen = results.get(timeout=max(left, 0))
        except queue.Empty:
            words = f"{name}: no result after {open_checks[name].seconds:.0f} s."
            done, seen = name, [Seen("check_timed_out", words)]
        if open_checks.pop(done, None):
            found[done] = seen
    return [seen.finding(check.name) for check in checks for seen in found[check.name]]


def _carry_out(site: Runtime, check: Check, results: "queue.Queue[tuple[str, list[Seen]]]") -> None:
    seen: list[Seen] = []
    try:
        # What people and webhooks ask of Stripe meanwhile goes first.
        with site.stripe.background():
            for each in check.look(site):
                seen.append(each)
    except BillingError as refusal:
        seen.append(Seen("not_checked", f"{check.name}: {refusal.code}: {refusal.detail}"))
    except AWAY as error:
        seen.append(Seen("not_checked", f"{check.name}: a store does not answer ({type(error).__name__})."))
    except Exception as bug:
        seen.append(Seen("check_failed", f"{check.name}: {type(bug).__name__}: {bug}"))
    results.put((check.name, seen))
