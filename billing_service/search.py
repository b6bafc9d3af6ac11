"""Finding an organization by whatever a person has in hand: an id of ours or of Stripe's, a name, an e-mail address.

What is asked for is a value, never a pattern or an operator. At most two requests to Stripe.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from bson import ObjectId
from mongoengine import Q

from .documents import Organization, RefundRequest, Subscription, WebhookEvent
from .documents.organization import FOLDED
from .errors import BillingError, StripeMissing
from .stripe_gateway import StripeGateway
from .stripe_gateway.shapes import id_of

MOST = 20
# The highest text of a collation: what begins with a word lies between the word and the word followed by it.
LAST = "\uffff"
_STRIPE_ID = re.compile(r"(cus|sub|ch|py|pi|in|re|pyr|dp|du|evt)_[A-Za-z0-9_]{1,200}")
_ORGANIZATION_ID = re.compile(r"[0-9a-fA-F]{24}")


@dataclass(frozen=True)
class Hit:
    """An organization, and what of it matched."""

    organization: ObjectId
    matched: str
    value: str


@dataclass
class Found:
    """Hits, best first, and why a part could not be searched."""

    hits: list[Hit] = field(default_factory=list)
    event_id: str | None = None
    # Stripe has them, and no row here names them.
    strangers: list[str] = field(default_factory=list)
    trouble: BillingError | None = None


def search(text: str, *, stripe: StripeGateway) -> Found:
    """Look for organizations; Stripe is asked for what was paid and for e-mail addresses only.

    Names are always looked at: nothing keeps an organization from being called like an id or an address.
    """
    found = _by_what_it_is(text, stripe)
    found.hits += _by_name(text)
    return found


def _by_what_it_is(text: str, stripe: StripeGateway) -> Found:
    known = _STRIPE_ID.fullmatch(text)
    if _ORGANIZATION_ID.fullmatch(text):
        return Found([Hit(ObjectId(text), "organization", text.lower())])
    if known:
        return _BY_ID[known[1]](text, stripe)
    return _by_email(text, stripe) if "@" in text else Found()


def describe(found: Found) -> dict[str, Any]:
    """The hits as plain values, each with its organization and its row; two reads for all."""
    every = list(dict.fromkeys(hit.organization for hit in found.hits))
    ids = every[:MOST]
    organizations = {each.pk: each for each in Organization.objects(id__in=ids).only("name", "slug", "plan")}
    rows = {each.organization: each for each in Subscription.objects(organization__in=ids)}
    matched: dict[ObjectId, Hit] = {}
    for hit in found.hits:
        matched.setdefault(hit.organization, hit)
    items = [
        _item(matched[each], organizations.get(each), rows.get(each))
        for each in ids
        if each in organizations or each in rows
    ]
    trouble = {"code": found.trouble.code, "detail": found.trouble.detail} if found.trouble else None
    return {
        "items": items,
        "event_id": found.event_id,
        "strangers": found.strangers,
        "is_capped": len(every) > MOST,
        "trouble": trouble,
    }


def _item(hit: Hit, organization: Organization | None, row: Subscription | None) -> dict[str, Any]:
    return {
        "org_id": hit.organization,
        "name": organization.name if organization else None,
        "slug": organization.slug if organization else None,
        "plan": organization.plan if organization else None,
        "status": row.status if row else None,
        "stripe_customer_id": row.stripe_customer_id if row else None,
        "stripe_subscription_id": row.stripe_subscription_id if row else None,
        "matched": hit.matched,
        "value": hit.value,
    }


def _by_customer(text: str, stripe: StripeGateway) -> Found:
    return Found(_of_customers([text], "customer"))


def _by_subscription(text: str, stripe: StripeGateway) -> Found:
    either = Q(stripe_subscription_id=text) | Q(candidates__stripe_subscription_id=text)
    rows = Subscription.objects(either).only("organization").limit(MOST + 1)
    return Found([Hit(row.organization, "subscription", text) for row in rows])


def _by_event(text: str, stripe: StripeGateway) -> Found:
    event = WebhookEvent.objects(event_id=text).only("event_id", "organization").first()
    if event is None:
        return Found()
    hits = [Hit(event.organization, "event", text)] if event.organization else []
    return Found(hits, event_id=text)


def _by_charge(text: str, stripe: StripeGateway) -> Found:
    return _asked(lambda: [stripe.charge(text).value.customer], "charge", text)


def _by_payment(text: str, stripe: StripeGateway) -> Found:
    return _asked(lambda: [each.customer for each in stripe.charges_of_payment(text).value], "payment", text)


def _by_invoice(text: str, stripe: StripeGateway) -> Found:
    return _asked(lambda: [id_of(stripe.invoice(text).value.get("customer"))], "invoice", text)


def _by_refund(text: str, stripe: StripeGateway) -> Found:
    asked_here = RefundRequest.objects(stripe_refund_id=text).only("organization").first()
    if asked_here:
        return Found([Hit(asked_here.organization, "refund", text)])
    return _asked(lambda: _payer(stripe.refund(text).value.charge, stripe), "refund", text)


def _by_dispute(text: str, stripe: StripeGateway) -> Found:
    return _asked(lambda: _payer(stripe.dispute(text).value.charge, stripe), "dispute", text)


def _payer(charge_id: str | None, stripe: StripeGateway) -> list[str | None]:
    return [stripe.charge(charge_id).value.customer] if charge_id else []


def _by_email(text: str, stripe: StripeGateway) -> Found:
    # Stripe tells capitals apart, people do not: as it was typed, and as most addresses are stored.
    spellings = dict.fromkeys([text, text.lower()])
    return _asked(
        lambda: [each.id for spelling in spellings for each in stripe.customers_by_email(spelling).value],
        "e-mail",
        None,
    )


def _asked(customers: Callable[[], Iterable[str | None]], matched: str, value: str | None) -> Found:
    try:
        asked = [each for each in dict.fromkeys(customers()) if each]
    except StripeMissing:
        return Found()
    except BillingError as refusal:
        return Found(trouble=refusal)
    known = _of_customers(asked, matched)
    # Whose address it is is shown where a customer is, not in a list of hits.
    hits = [Hit(hit.organization, matched, value or hit.value) for hit in known]
    return Found(hits, strangers=[each for each in asked if each not in {hit.value for hit in known}])


def _of_customers(customers: list[str], matched: str) -> list[Hit]:
    if not customers:
        return []
    either = Q(stripe_customer_id__in=customers) | Q(candidates__stripe_customer_id__in=customers)
    rows = Subscription.objects(either).only("organization", "stripe_customer_id", "candidates").limit(MOST + 1)
    return [
        Hit(row.organization, matched, customer)
        for row in rows
        for customer in dict.fromkeys((row.stripe_customer_id, *(each.stripe_customer_id for each in row.candidates)))
        if customer in customers
    ]


def _by_name(text: str) -> list[Hit]:
    """Whose slug or name begins so, whatever its case and accents; slugs first, each in the alphabet's order."""
    return [
        Hit(each.pk, name, getattr(each, name))
        for name in ("slug", "name")
        for each in find_prefixed(name, text).only(name).limit(MOST + 1)
    ]


def find_prefixed(name: str, text: str) -> Any:
    """Organizations whose `name` (a field) begins with the text, by the index of its collation."""
    bounds = {f"{name}__gte": text, f"{name}__lt": text + LAST}
    return Organization.objects(**bounds).collation(FOLDED).order_by(name)


_BY_ID: dict[str, Callable[[str, StripeGateway], Found]] = {
    "cus": _by_customer,
    "sub": _by_subscription,
    "ch": _by_charge,
    "py": _by_charge,
    "pi": _by_payment,
    "in": _by_invoice,
    "re": _by_refund,
    "pyr": _by_refund,
    "dp": _by_dispute,
    "du": _by_dispute,
    "evt": _by_event,
}
