"""A plan that an admin sets by hand: it wins over Stripe's until it ends or is lifted, and Stripe is not asked."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from bson import ObjectId

from ..documents import Override, Subscription
from ..plans import Plans
from .convergence import Also, converge
from .decision import Change
from .synchronization import require_organization


def bump(
    org_id: ObjectId,
    plan: str | None,
    *,
    until: datetime | None,
    note: str | None,
    actor: str,
    plans: Plans,
    now: datetime,
    also: Also | None = None,
    dry_run: bool = False,
) -> Change:
    """Set the organization's plan by hand, until a time or until it is lifted; plan None lifts it.

    `plan` is one of the plan file. An organization that was never billed gets a row. Raises OrganizationNotFound.
    """
    require_organization(org_id)
    if until:
        # As MongoDB stores it; otherwise the same time given again would be another one.
        until = until.replace(microsecond=until.microsecond // 1000 * 1000)
    wanted = Override(plan=plan, note=note, actor=actor, at=now, until=until) if plan else None

    def impose(row: Subscription) -> Mapping[str, Any]:
        return {"override": row.override if _says_the_same(row.override, wanted) else wanted}

    return converge(
        org_id, lambda _: None, plans=plans, now=now, source="bump", also=also, dry_run=dry_run, imposed=impose
    )


def _says_the_same(stored: Override | None, wanted: Override | None) -> bool:
    """Whether nothing would change but who said it, and when."""
    if stored is None or wanted is None:
        return stored is wanted
    return (stored.plan, stored.until, stored.note) == (wanted.plan, wanted.until, wanted.note)
