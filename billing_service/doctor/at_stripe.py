"""Stripe itself: whether it answers, whose key it is, what that may do, and whether the clocks agree."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from ..errors import BillingError, StripeMisconfigured
from ..overview import account as stored_account
from ..overview import mode as stored_mode
from ..runtime import Runtime
from ..stripe_gateway import RIGHTS, Right, is_key_refused, try_right
from .findings import Seen, fine

SKEWED = timedelta(seconds=10)
WRONG = timedelta(seconds=60)
SECOND = timedelta(seconds=1)


def look_at_stripe(site: Runtime) -> Iterator[Seen]:
    """One request: does Stripe answer to this key, and what time is it there?"""
    key = site.settings.stripe_secret_key
    if not key:
        yield Seen("stripe_not_configured", "STRIPE_SECRET_KEY is not set.")
        return
    kind = "restricted" if key.startswith("rk_") else "secret"
    mode = "live" if site.settings.livemode else "test"
    asked_at = site.clock()
    try:
        account = site.stripe.account()
    except StripeMisconfigured as refusal:
        if is_key_refused(refusal):
            yield Seen("stripe_key_refused", refusal.detail)
        else:  # whatever else it may not do, the rights tell
            yield fine(f"Stripe answers to a {kind} key of {mode} mode.")
        return
    except BillingError as refusal:
        yield Seen("stripe_unreachable", refusal.detail)
        return
    yield fine(f"Stripe answers to a {kind} key of {mode} mode, account {account.value}.")
    if account.seen_until:
        yield _compare_clocks(asked_at, account.seen_until, site.clock())


def _compare_clocks(asked_at: datetime, date: datetime, answered_at: datetime) -> Seen:
    """Stripe wrote its Date, cut off to the second, at some time between our asking and the answer."""
    ahead, behind = asked_at - (date + SECOND), date - answered_at
    off = max(ahead, behind)
    way = "ahead of" if ahead > behind else "behind"
    words = f"This machine's clock is {off.total_seconds():.0f} s {way} Stripe's."
    if off >= WRONG:
        return Seen("clock_wrong", words)
    if off >= SKEWED:
        return Seen("clock_skewed", words)
    return fine("This machine's clock agrees with Stripe's.")


def look_at_account(site: Runtime) -> Iterator[Seen]:
    """The account and the mode that the database belongs to and those of the key."""
    mode = "live" if site.settings.livemode else "test"
    if (known := stored_mode()) not in (None, mode):
        yield Seen("stripe_account_differs", f"The database is of Stripe's {known} mode, the key is of {mode} mode.")
        return
    stored = stored_account()
    if stored is None:
        yield fine("The database belongs to no Stripe account yet; the first start stores the key's.")
        return
    of_key = site.stripe.account().value
    if of_key == stored:
        yield fine(f"Database and key are of the account {stored}.")
    else:
        yield Seen("stripe_account_differs", f"The database belongs to {stored}, the key is of {of_key}.")


def look_at_rights(site: Runtime) -> Iterator[Seen]:
    """Of a restricted key: what it may read, by reading a little of everything that the service reads."""
    if not site.settings.stripe_secret_key.startswith("rk_"):
        yield fine("The key is not restricted.")
        return
    lacking = [seen for right in RIGHTS if (seen := _lacking(site, right))]
    yield from lacking
    if not lacking:
        yield fine("The key may read all that the service reads.")
    changes = ", ".join(f"{right.collection} ({', '.join(right.changes)})" for right in RIGHTS if right.changes)
    yield fine(f"Whether it may change {changes} is not tried: trying would change something at Stripe.")


def _lacking(site: Runtime, right: Right) -> Seen | None:
    try:
        try_right(site.stripe, right)
    except StripeMisconfigured as refusal:
        code = "stripe_permission_for_doctor_missing" if right.optional else "stripe_permission_missing"
        named = " or ".join(refusal.facts.get("lacks", ())) or f"to read {right.collection}"
        return Seen(code, f"The key lacks the permission {named}; it is needed by the calls {', '.join(right.reads)}.")
    return None
