"""Conditions that hold are stored, told of once, again each day, and told of once more when they hold no longer.

Two sweeps at once tell once: a row is inserted and removed by one, and a signal's key is its condition's beginning.
"""

from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

from mongoengine.errors import NotUniqueError

from .. import outbox
from ..documents import STORE_ERRORS, OpenAlert, in_transaction
from ..observability import log
from .conditions import CONDITIONS, Condition, Facts, Watch

REMINDER = timedelta(hours=24)


def check(watch: Watch) -> int:
    """Compare what holds now with what is stored; returns how many began or ended. Raises STORE_ERRORS."""
    rows = {row.name: row for row in OpenAlert.objects(name__gt="")}
    watch = replace(watch, open=frozenset(row.condition for row in rows.values()))
    changed = 0
    for condition in CONDITIONS:
        try:
            held = {f"{condition.name}:{subject}": facts for subject, facts in condition.find(watch).items()}
        except STORE_ERRORS:
            raise
        except Exception as error:  # what cannot be found out neither begins nor ends
            log.error("condition_not_checked", condition=condition.name, exc_info=error)
            continue
        for name, facts in held.items():
            changed += _hold(rows.get(name) or _begun(name, condition, watch), condition, watch, facts)
        for row in rows.values():
            if row.condition == condition.name and row.name not in held:
                changed += in_transaction(partial(_end, row, watch))
    return changed


def _begun(name: str, condition: Condition, watch: Watch) -> OpenAlert | None:
    row = OpenAlert(name=name, condition=condition.name, since=watch.now, seen_at=watch.now)
    try:
        return row.save(force_insert=True)
    except NotUniqueError:  # another sweep was faster, and tells
        return None


def _hold(row: OpenAlert | None, condition: Condition, watch: Watch, facts: Facts) -> bool:
    if row is None or watch.now - row.since < condition.hold:
        return False
    days = (watch.now - row.since) // REMINDER
    told = outbox.signal(
        condition.name, f"{row.name}:{row.since.isoformat()}:{days}", now=watch.now, facts=_told(row, facts)
    )

    def write() -> bool:
        as_read = OpenAlert.objects(name=row.name, since=row.since)
        if not as_read.update_one(set__told=True, set__seen_at=watch.now, set__facts=facts):
            return False  # it ended meanwhile
        return bool(condition.told_elsewhere or outbox.put([told]))

    new = in_transaction(write) and not row.told
    if new:
        log.warning("condition_holds", alert=True, condition=condition.name, **_plain(facts))
    return new


def _end(row: OpenAlert, watch: Watch) -> bool:
    """Tell that it is over, if people knew; called inside a transaction."""
    if not OpenAlert.objects(name=row.name, since=row.since).delete():
        return False
    if row.told:
        seconds = int((watch.now - row.since).total_seconds())
        facts = {"alert": row.condition, **_told(row, row.facts), "seconds": seconds}
        key = f"recovered:{row.name}:{row.since.isoformat()}"
        outbox.put([outbox.signal("recovered", key, now=watch.now, facts=facts)])
        log.info("condition_over", condition=row.condition, seconds=seconds, **_plain(row.facts))
    return True


def _told(row: OpenAlert, facts: Facts) -> Facts:
    return {**facts, "since": facts.get("since", row.since)}


def _plain(facts: Facts) -> dict[str, Any]:
    return {f"of_{name}": str(value) for name, value in facts.items() if value is not None}
