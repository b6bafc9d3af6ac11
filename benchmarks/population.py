"""Organizations with a subscription each, known to the sandbox and to the database under the same ids."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import requests
from bson import ObjectId
from pymongo.database import Database

from billing_service.sandbox.stripe.control import Control
from billing_service.sandbox.stripe.seeds import DEFAULTS

FIRST_ORGANIZATION = 0x5EED00000000000000000000
PRICE, PLAN = "price_pro_monthly", "pro"
CHUNK = 5_000


@dataclass(frozen=True)
class Population:
    """`sample` is the first subscription as the sandbox shows it; the others differ by their index alone, as the
    sandbox's seeds say.
    """

    count: int
    batch: int
    sample: dict[str, Any]

    def org_id(self, index: int) -> ObjectId:
        return ObjectId(f"{FIRST_ORGANIZATION + index:024x}")

    def customer(self, index: int) -> str:
        return f"cus_Seed{self.batch:02d}{index:08d}"

    def subscription(self, index: int) -> str:
        return f"sub_1Seed{self.batch:02d}{index:08d}"

    def created(self, index: int) -> int:
        """Unix seconds; the later the higher the index."""
        span = DEFAULTS["created_to"] - DEFAULTS["created_from"]
        return self.sample["created"] + index * span // self.count

    def period(self, index: int) -> tuple[datetime, datetime]:
        item, later = self.sample["items"]["data"][0], index % 86_400
        starts, ends = item["current_period_start"] + later, item["current_period_end"] + later
        return datetime.fromtimestamp(starts, UTC), datetime.fromtimestamp(ends, UTC)


def settle_in(control: Control, database: Database, api_key: str, count: int, account: str | None = None) -> Population:
    """Make the subscriptions at the sandbox and the rows here, as a sync an hour ago would have left them."""
    seeded = control.seed(count=count, prices=[PRICE], **({"account": account} if account else {}))
    answer = requests.get(
        f"{control.base_url}/v1/subscriptions/{seeded['first']}",
        headers={"Authorization": f"Bearer {api_key}"},
        timeout=10,
    )
    answer.raise_for_status()
    population = Population(count, seeded["batch"], answer.json())
    for first in range(0, count, CHUNK):
        chunk = range(first, min(count, first + CHUNK))
        database.organizations.insert_many([_organization(population, each) for each in chunk], ordered=False)
        database.subscriptions.insert_many([_row(population, each) for each in chunk], ordered=False)
    return population


def _organization(population: Population, index: int) -> dict[str, Any]:
    now = datetime.now(UTC)
    org_id = population.org_id(index)
    return {"_id": org_id, "name": f"Organization {index}", "slug": f"organization-{index}", "plan": PLAN,
            "created_at": now}  # fmt: skip


def _row(population: Population, index: int) -> dict[str, Any]:
    item = population.sample["items"]["data"][0]
    looked_at = datetime.now(UTC) - timedelta(hours=1)
    starts, ends = population.period(index)
    return {
        "organization": population.org_id(index),
        "stripe_customer_id": population.customer(index),
        "stripe_subscription_id": population.subscription(index),
        "stripe_created_at": datetime.fromtimestamp(population.created(index), UTC),
        "status": population.sample["status"],
        "stripe_plan": PLAN,
        "plan": PLAN,
        "price_id": PRICE,
        "quantity": item["quantity"],
        "current_period_start": starts,
        "current_period_end": ends,
        "cancel_at_period_end": False,
        "as_of": looked_at,
        "seen_until": looked_at.replace(microsecond=0),
        "synced_at": looked_at,
        "synced_from": "sync",
        "version": 1,
    }
