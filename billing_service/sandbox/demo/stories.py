"""What happens to the demo's organizations: `begin`s are told to the service, `drift`s are not."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from .stage import Stage

if TYPE_CHECKING:
    from .organizations import Organization

Act = Callable[[Stage, "Organization"], None]
ANOTHER_ORGANIZATION = "0" * 24


def nothing(stage: Stage, organization: "Organization") -> None:
    """Nothing happens."""


def pays(price: str, days: int, **more: Any) -> Act:
    """A customer who took a price that many days ago."""

    def begin(stage: Stage, organization: "Organization") -> None:
        customer = stage.customer(organization)
        stage.subscribe(customer, price, **more)
        stage.age(customer, days)

    return begin


def pays_at_the_second_attempt(stage: Stage, organization: "Organization") -> None:
    """The first charge fails, the second succeeds; a part of it is refunded later."""
    customer = stage.customer(organization)
    stage.control.payment(customer, "decline", "insufficient_funds")
    stage.subscribe(customer, "price_pro_monthly")
    stage.control.payment(customer, "succeed")
    invoice = stage.subscriptions_of(customer)[0]["latest_invoice"]
    stage.ask(f"/v1/invoices/{invoice}/pay")
    stage.age(customer, 9)
    stage.control.patch(stage.charges_of(customer)[0]["id"], {"amount_refunded": 2_500})


def left(stage: Stage, organization: "Organization") -> None:
    """A customer who cancelled some days ago, which we know."""
    pays("price_starter_monthly", 17)(stage, organization)
    customer = stage.customer_of(organization)
    stage.ask(f"/v1/subscriptions/{stage.subscriptions_of(customer)[0]['id']}", method="DELETE")
    stage.age(customer, 6)


def pays_twice(stage: Stage, organization: "Organization") -> None:
    """Two checkouts: the second one was meant to replace the first."""
    pays("price_starter_monthly", 15)(stage, organization)
    customer = stage.customer_of(organization)
    stage.subscribe(customer, "price_pro_monthly")
    stage.age(customer, 4)


def upgraded_and_repaired(stage: Stage, organization: "Organization") -> None:
    """An upgrade's webhook was lost, the customer wrote, support synced."""
    refund_all(stage, organization)
    change_price(stage, organization, "price_business_yearly")
    note = "Ticket 4182: they upgraded yesterday and still saw Pro."
    stage.call("POST", f"/api/admin/billing/sync/{organization.id}", {"note": note})


def refund_all(stage: Stage, organization: "Organization") -> None:
    """The customer's first charge is given back."""
    charge = stage.charges_of(stage.customer_of(organization))[-1]
    stage.control.patch(charge["id"], {"amount_refunded": charge["amount"], "refunded": True})


def change_price(stage: Stage, organization: "Organization", price: str) -> None:
    """Another price for the item of the customer's subscription."""
    subscription = stage.subscription_of(organization)
    item = subscription["items"]["data"][0]["id"]
    stage.ask(f"/v1/subscriptions/{subscription['id']}", {"items[0][id]": item, "items[0][price]": price})


def upgrades(stage: Stage, organization: "Organization") -> None:
    """An upgrade that we never heard of."""
    change_price(stage, organization, "price_business_monthly")


def comes_back(stage: Stage, organization: "Organization") -> None:
    """A new subscription after the old one had ended: paid, and not granted."""
    customer = stage.customer_of(organization)
    stage.subscribe(customer, "price_pro_monthly")


def cancels(stage: Stage, organization: "Organization") -> None:
    """Cancelled in Stripe's dashboard: not paid any more, and still granted."""
    stage.ask(f"/v1/subscriptions/{stage.subscription_of(organization)['id']}", method="DELETE")


def will_leave(stage: Stage, organization: "Organization") -> None:
    """Cancelled to the end of the period in the customer portal."""
    subscription = stage.subscription_of(organization)["id"]
    stage.ask(f"/v1/subscriptions/{subscription}", {"cancel_at_period_end": "true"})


def cannot_pay(stage: Stage, organization: "Organization") -> None:
    """The card is declined when a new period is billed."""
    stage.control.payment(stage.customer_of(organization), "decline", "expired_card")
    subscription = stage.subscription_of(organization)["id"]
    stage.ask(f"/v1/subscriptions/{subscription}", {"billing_cycle_anchor": "now"})


def has_a_dead_letter(stage: Stage, organization: "Organization") -> None:
    """Metadata named another organization when the cancellation's event arrived; they were corrected later."""
    subscription = stage.subscription_of(organization)["id"]
    stage.control.patch(subscription, {"metadata": {"organizationId": ANOTHER_ORGANIZATION}})
    cancels(stage, organization)
    stage.deliver(about=subscription)
    stage.control.patch(subscription, {"metadata": {"organizationId": organization.id}})


def loses_its_subscription(stage: Stage, organization: "Organization") -> None:
    """The subscription is gone at Stripe, its customer is there: proof that it is gone."""
    stage.control.remove(stage.subscription_of(organization)["id"])


def loses_everything(stage: Stage, organization: "Organization") -> None:
    """Neither subscription nor customer can be seen: as with a key of another account."""
    loses_its_subscription(stage, organization)
    stage.control.remove(stage.customer_of(organization))


def is_deleted(stage: Stage, organization: "Organization") -> None:
    """Somebody deleted the customer in Stripe's dashboard."""
    stage.ask(f"/v1/customers/{stage.customer_of(organization)}", method="DELETE")


def is_forgotten_here(stage: Stage, organization: "Organization") -> None:
    """Our row was restored from a backup that is older than the subscription."""
    kept = ("_id", "organization", "stripe_customer_id", "version", "candidates")
    row = stage.row(organization)
    stage.change_row(organization, {"plan": "free"}, unset=[name for name in row if name not in (*kept, "plan")])
    stage.change_organization(organization, "free")


def has_a_wrong_plan_here(stage: Stage, organization: "Organization") -> None:
    """A script of the SaaS wrote the organization's plan, which only the billing service may."""
    stage.change_organization(organization, "business")


def is_given_a_plan(stage: Stage, organization: "Organization") -> None:
    """An admin lets them have the highest plan until a project is done."""
    now = datetime.now(UTC)
    override = {
        "plan": "business",
        "note": "Migration project: Business until their data have moved.",
        "actor": "ops@example.com",
        "at": now - timedelta(days=3),
        "until": now + timedelta(days=3650),
    }
    stage.change_row(organization, {"override": override, "plan": "business", "synced_from": "bump"})
    stage.change_organization(organization, "business")
