"""The demo's organizations: what each is called, its story, and the verdict that the story comes to."""

from dataclasses import dataclass

from bson import ObjectId

from . import letters, stories
from .catalogue import UNKNOWN_PRICE
from .stories import Act, nothing, pays


@dataclass(frozen=True)
class Organization:
    """An organization of the demo; `id` is the same on every machine, so that texts can name it."""

    number: int
    name: str
    slug: str
    verdict: str
    story: str
    begin: Act
    drift: Act = nothing

    @property
    def id(self) -> str:
        return f"65{self.number:022d}"

    @property
    def object_id(self) -> ObjectId:
        return ObjectId(self.id)

    @property
    def email(self) -> str:
        return f"billing+{self.slug}@example.com"


ORGANIZATIONS = (
    Organization(
        1,
        "Aldergate Logistics",
        "aldergate-logistics",
        "in_sync",
        "an upgrade got lost, support synced it; an earlier charge is refunded",
        pays("price_pro_yearly", 200),
        stories.upgraded_and_repaired,
    ),
    Organization(
        2,
        "Brightwater Analytics",
        "brightwater-analytics",
        "in_sync",
        "the first charge failed, the second was paid and partly refunded",
        stories.pays_at_the_second_attempt,
    ),
    Organization(
        3,
        "Cinder & Oak Studio",
        "cinder-oak-studio",
        "in_sync",
        "on trial; bought two packs of extras, one of which the plan file does not know: a dead letter",
        pays("price_starter_monthly", 4, trial_period_days=14),
        letters.buys_extras,
    ),
    Organization(
        4,
        "Dunmore Freight",
        "dunmore-freight",
        "not_billed",
        "never billed; a dead letter tells of a customer who may be theirs",
        nothing,
        letters.names_nobody,
    ),
    Organization(
        5,
        "Eastline Software",
        "eastline-software",
        "not_billed",
        "cancelled, and both sides know",
        stories.left,
    ),
    Organization(
        6,
        "Fjord Cartography",
        "fjord-cartography",
        "diverged",
        "pays for Pro and has Free",
        stories.left,
        stories.comes_back,
    ),
    Organization(
        7,
        "Granite Peak Outfitters",
        "granite-peak-outfitters",
        "diverged",
        "cancelled at Stripe, still has Pro",
        pays("price_pro_monthly", 12),
        stories.cancels,
    ),
    Organization(
        8,
        "Harborlight Hotels",
        "harborlight-hotels",
        "diverged",
        "will leave at the end of the period; the event came in the wrong mode",
        pays("price_business_monthly", 18),
        letters.is_of_the_other_mode,
    ),
    Organization(
        9,
        "Ironbridge Tooling",
        "ironbridge-tooling",
        "diverged",
        "the card expired: past due",
        pays("price_pro_monthly", 26),
        stories.cannot_pay,
    ),
    Organization(
        10,
        "Juniper Legal",
        "juniper-legal",
        "diverged",
        "upgraded from Pro to Business",
        pays("price_pro_monthly", 8),
        stories.upgrades,
    ),
    Organization(
        11,
        "Kestrel Media",
        "kestrel-media",
        "diverged",
        "cancelled, and the event is a dead letter",
        pays("price_starter_monthly", 21),
        stories.has_a_dead_letter,
    ),
    Organization(
        12,
        "Lumen Orchards",
        "lumen-orchards",
        "diverged",
        "the organization's plan was changed by hand",
        pays("price_pro_monthly", 14),
        stories.has_a_wrong_plan_here,
    ),
    Organization(
        13,
        "Meridian Dental Group",
        "meridian-dental-group",
        "overridden",
        "pays for Starter, was given Business",
        pays("price_starter_monthly", 11),
        stories.is_given_a_plan,
    ),
    Organization(
        14,
        "Nimbus Payroll",
        "nimbus-payroll",
        "plan_unresolved",
        "pays a price that the plan file does not know",
        pays(UNKNOWN_PRICE, 5),
    ),
    Organization(
        15,
        "Orchid Street Bakery",
        "orchid-street-bakery",
        "several_live_subscriptions",
        "pays for Starter and for Pro",
        stories.pays_twice,
    ),
    Organization(
        16,
        "Pinecrest Schools",
        "pinecrest-schools",
        "missing_in_db",
        "our row forgot its subscription",
        pays("price_business_yearly", 90),
        stories.is_forgotten_here,
    ),
    Organization(
        17,
        "Quarry Hill Energy",
        "quarry-hill-energy",
        "missing_in_stripe",
        "the subscription is gone, proven by its customer; an event of it failed",
        pays("price_pro_monthly", 19),
        letters.tells_of_what_is_gone,
    ),
    Organization(
        18,
        "Redwood Telemetry",
        "redwood-telemetry",
        "missing_in_stripe",
        "nothing is to be seen, so nothing is proven",
        pays("price_pro_monthly", 16),
        stories.loses_everything,
    ),
    Organization(
        19,
        "Saltmarsh Brewing",
        "saltmarsh-brewing",
        "customer_deleted",
        "the customer was deleted at Stripe",
        pays("price_starter_monthly", 13),
        stories.is_deleted,
    ),
    Organization(
        20,
        "Tidewater Rail",
        "tidewater-rail",
        "stripe_unavailable",
        "Stripe never answers for this one",
        pays("price_business_monthly", 7),
    ),
)

# The only one that Stripe is made not to answer for; see unreachable.py.
UNREACHABLE = next(each for each in ORGANIZATIONS if each.verdict == "stripe_unavailable")
