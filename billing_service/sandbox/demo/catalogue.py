"""The demo's products and prices at the sandbox, with the ids that the sample plan file maps to plans."""

from dataclasses import dataclass

from .at_stripe import AtStripe

# A price that stands in no plan file: somebody made it at Stripe and told nobody.
UNKNOWN_PRICE = "price_enterprise_pilot"


@dataclass(frozen=True)
class Price:
    """What one price costs, in cents; `interval` None is a single payment, `plan` None means no plan."""

    id: str
    product: str
    amount: int
    interval: str | None
    plan: str | None


PRICES = (
    Price("price_starter_monthly", "Starter", 1_900, "month", "starter"),
    Price("price_starter_yearly", "Starter", 19_000, "year", "starter"),
    Price("price_pro_monthly", "Pro", 7_900, "month", "pro"),
    Price("price_pro_yearly", "Pro", 79_000, "year", "pro"),
    Price("price_business_monthly", "Business", 29_900, "month", "business"),
    Price("price_business_yearly", "Business", 299_000, "year", "business"),
    Price("price_pack_100k", "Pack of 100,000 units", 4_900, None, None),
    Price(UNKNOWN_PRICE, "Enterprise pilot", 120_000, "month", None),
)


def offer(stage: AtStripe) -> None:
    """Make the products and prices that are not there."""
    for each in PRICES:
        if stage.look(f"/v1/prices/{each.id}") is None:
            _make(stage, each)


def _make(stage: AtStripe, price: Price) -> None:
    product = "prod_demo_" + price.product.split()[0].lower()
    if stage.look(f"/v1/products/{product}") is None:
        stage.ask("/v1/products", {"id": product, "name": price.product})
    form = {"product": product, "currency": "usd", "unit_amount": price.amount}
    if price.interval:
        form["recurring[interval]"] = price.interval
    if price.plan:
        form["metadata[planId]"] = price.plan
    made = stage.ask("/v1/prices", form)["id"]
    # Stripe chooses the ids of prices; only the control plane can put one under the plan file's id.
    stage.control.patch(made, {"id": price.id})
    stage.control.remove(made)
