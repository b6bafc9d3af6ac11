"""The plan file beside the prices that Stripe has: there, of this mode, on sale, of the right kind and amount."""

from collections.abc import Iterator

from ..errors import StripeMissing
from ..plans import Pack, Plan
from ..runtime import Runtime
from ..stripe_gateway import LivePrice, find_price
from .findings import Seen, fine

# Stripe's words for a price of live mode asked for by a test key, and the other way round.
OTHER_MODE = "a similar object exists in"


def look_at_prices(site: Runtime) -> Iterator[Seen]:
    """One request for each price of the plan file."""
    problems = [seen for plan in site.plans.plans for seen in _of_plan(site, plan)]
    problems += [seen for pack in site.plans.packs for seen in _of_pack(site, pack)]
    yield from problems
    if not problems:
        count = sum(len(plan.prices) for plan in site.plans.plans) + len(site.plans.packs)
        yield fine(f"All {count} prices of the plan file are at Stripe as the file says.")


def _of_plan(site: Runtime, plan: Plan) -> Iterator[Seen]:
    found = []
    for price_id in plan.prices:
        price = _find(site, price_id)
        if isinstance(price, Seen):
            yield price
            continue
        found.append(price)
        if not price.recurring:
            yield Seen("price_of_wrong_kind", f"{price_id} of the plan {plan.id} is a one-time price.")
    # One that is not sold any more still means its plan for who bought it.
    if found and not any(each.active for each in found):
        named = ", ".join(each.id for each in found)
        yield Seen("price_inactive", f"No price of the plan {plan.id} is active ({named}).")


def _of_pack(site: Runtime, pack: Pack) -> Iterator[Seen]:
    price = _find(site, pack.price)
    if isinstance(price, Seen):
        yield price
        return
    if price.recurring:
        yield Seen("price_of_wrong_kind", f"{price.id} of the pack {pack.id} is a recurring price.")
    elif (price.unit_amount, price.currency) != (pack.amount, pack.currency.lower()):
        says = f"the plan file says {pack.amount} {pack.currency}, Stripe {price.unit_amount} {price.currency}"
        yield Seen("pack_price_differs", f"Of {price.id} of the pack {pack.id} {says} (minor units).")
    if not price.active:
        yield Seen("price_inactive", f"{price.id} of the pack {pack.id} is not active.")


def _find(site: Runtime, price_id: str) -> LivePrice | Seen:
    try:
        return find_price(site.stripe, price_id).value
    except StripeMissing as refusal:
        other = OTHER_MODE in refusal.detail
        words = "is a price of the other mode" if other else "is not at Stripe"
        return Seen("price_of_other_mode" if other else "price_missing", f"{price_id} of the plan file {words}.")
