"""Dead letters of several causes, each delivered, tried and given up by the service itself."""

from typing import TYPE_CHECKING

from . import stories
from .stage import Stage

if TYPE_CHECKING:
    from .organizations import Organization


def is_of_the_other_mode(stage: Stage, organization: "Organization") -> None:
    """An event of live mode reaches this test installation: two endpoints were mixed up at Stripe."""
    stories.will_leave(stage, organization)
    event = stage.held_event("customer.subscription.updated", stage.customer_of(organization))
    stage.control.patch(event, {"livemode": True})
    stage.deliver(about=event)


def names_nobody(stage: Stage, organization: "Organization") -> None:
    """Sales made the customer in Stripe's dashboard and forgot to say whose it is."""
    form = {"name": f"{organization.name} (new)", "email": organization.email}
    customer = stage.ask("/v1/customers", form)["id"]
    stage.subscribe(customer, "price_starter_monthly")
    stage.give_up(stage.held_event("customer.subscription.created", customer))


def tells_of_what_is_gone(stage: Stage, organization: "Organization") -> None:
    """A new period was paid; when its event arrived the subscription was gone, so its handler failed each time."""
    customer = stage.customer_of(organization)
    stage.ask(f"/v1/subscriptions/{stage.subscription_of(organization)['id']}", {"billing_cycle_anchor": "now"})
    event = stage.held_event("invoice.paid", customer)
    stories.loses_its_subscription(stage, organization)
    stage.give_up(event)


def buys_extras(stage: Stage, organization: "Organization") -> None:
    """A pack of extras is credited; the next one is of a new kind that nobody has written into the plan file."""
    for pack in ("pack_100k", "pack_250k"):
        _buy(stage, organization, pack)


def _buy(stage: Stage, organization: "Organization", pack: str) -> None:
    metadata = {"organizationId": organization.id, "kind": "extras", "packId": pack}
    form = {
        "mode": "payment",
        "customer": stage.customer_of(organization),
        "line_items[0][price]": "price_pack_100k",
        "line_items[0][quantity]": 1,
        "success_url": "https://example.com/thanks",
    }
    for name, value in metadata.items():
        form |= {f"metadata[{name}]": value, f"payment_intent_data[metadata][{name}]": value}
    session = stage.ask("/v1/checkout/sessions", form)["id"]
    stage.control.complete_checkout(session)
    stage.deliver(about=stage.held_event("checkout.session.completed", session))
