"""One organization whose subscriptions the list alone does not decide: looked at at Stripe, as a link does."""

from collections.abc import Mapping

from bson import ObjectId
from pymongo.errors import PyMongoError

from ..documents import STORE_ERRORS, Subscription, in_transaction
from ..errors import BillingError, Conflict, SeveralLive
from ..observability import log
from ..scans import LostLease
from ..subscriptions import OF_STRIPE, Change, converge
from ..subscriptions.observation import Observation, observe
from ..subscriptions.statuses import ENDED
from . import settling
from .group import Group
from .holding import Hold

# Not this organization's matter: the import waits, ends, or is somebody else's.
OF_ALL: tuple[type[Exception], ...] = (LostLease, *OF_STRIPE, *STORE_ERRORS, PyMongoError)


class _Kept(Exception):
    """The organization has a row with a subscription by now."""


class _Gone(Exception):
    """Stripe shows none of them any more."""


def look_at(hold: Hold, group: Group, plans: Mapping[ObjectId, str | None]) -> None:
    """Decide it, write it, and settle its items. Raises what is not its own matter."""
    try:
        with hold.desk.stripe.background():
            _converge(hold, group, plans)
    except OF_ALL:
        raise
    except _Kept as row:
        _settle(hold, settling.End(group, "kept", detail=str(row)))
    except _Gone:
        _settle(hold, settling.End(group, "unmapped", "subscription_gone"))
    except Conflict:
        log.info("import_conflict", organization=str(group.organization))  # it stays pending, and is met again
    except BillingError as refusal:
        _settle(hold, settling.End(group, "unmapped", refusal.code, refusal.detail))
    except Exception as bug:
        log.error("import_failed_for_one", organization=str(group.organization), exc_info=bug)
        _settle(hold, settling.End(group, "unmapped", "internal_error", type(bug).__name__))


def _converge(hold: Hold, group: Group, plans: Mapping[ObjectId, str | None]) -> None:
    desk = hold.desk
    customers = tuple(group.customers)
    named = tuple(each.id for each in group.found if each.status not in ENDED)

    def look(row: Subscription) -> Observation:
        if row.stripe_subscription_id:
            raise _Kept(f"its row has {row.stripe_subscription_id}")
        seen = observe(desk.stripe, row, named=named, customers=customers)
        if len(seen.live) > 1:
            told = ", ".join(f"{each.id} ({each.status})" for each in seen.live)
            raise SeveralLive(f"it is billed by {told}")
        if seen.chosen is None:
            raise _Gone
        return seen

    def also(change: Change) -> None:
        settling.settle(hold, [settling.imported(group, change, plans)])

    change = converge(
        group.organization,
        look,
        plans=desk.plans,
        now=desk.clock(),
        source=settling.SOURCE,
        also=also,
        dry_run=not hold.run.apply,
        strict_plan=True,
    )
    if not hold.run.apply:
        _settle(hold, settling.imported(group, change, plans))


def _settle(hold: Hold, end: settling.End) -> None:
    with hold.lock:
        in_transaction(lambda: settling.settle(hold, [end]))
