"""The items of one organization that are still to be decided."""

import json
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from typing import Any

from bson import ObjectId

from ..documents import ImportItem
from ..stripe_gateway import LiveSubscription, shapes


@dataclass
class Group:
    """`cut`: there are more items than were read."""

    organization: ObjectId
    items: list[dict[str, Any]] = field(repr=False)
    run: ObjectId
    cut: bool = False

    @cached_property
    def found(self) -> list[LiveSubscription]:
        """The subscriptions as they were listed."""
        return [shapes.subscription(json.loads(each["snapshot"])) for each in self.items]

    @property
    def customers(self) -> list[str]:
        """Whose subscriptions they are, also those that were not read."""
        if self.cut:
            whole = {"run": self.run, "state": "pending", "organization": self.organization}
            return sorted(ImportItem._get_collection().distinct("stripe_customer_id", whole))
        return sorted({each["stripe_customer_id"] for each in self.items})

    def item_of(self, live: LiveSubscription) -> dict[str, Any]:
        """The item of one of its subscriptions."""
        return next(each for each in self.items if each["stripe_subscription_id"] == live.id)

    def is_deleted(self, live: LiveSubscription) -> bool:
        """Whether the customer was listed as a deleted one."""
        return bool(json.loads(self.item_of(live)["snapshot"])["customer_deleted"])


def groups_of(run_id: ObjectId, limit: int) -> list[Group]:
    """The next organizations with something to decide, about `limit` items; none: all is decided."""
    pending = ImportItem._get_collection().find({"run": run_id, "state": "pending"})
    items = list(pending.hint("run_state_organization").sort("organization", 1).limit(limit))
    groups = [Group(key, list(own), run_id) for key, own in groupby(items, lambda each: each["organization"])]
    if len(items) == limit and len(groups) > 1:
        groups.pop()  # the rest of it is on the next page
    elif len(items) == limit:
        groups[0].cut = True
    return groups
