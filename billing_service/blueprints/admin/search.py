"""Search: from whatever a person has in hand to the organization."""

from typing import Any

from marshmallow import fields, validate

from ... import search as rules
from ...runtime import runtime
from ..guard import requires
from ..wire import OrgId, Wire, plain_text
from . import blueprint


class SearchQuery(Wire):
    q = fields.String(
        required=True,
        validate=[
            validate.Length(min=2, max=200),
            # Blanks around it do not count: nothing at all would be the beginning of every name.
            validate.Regexp(r"\s*\S[\s\S]*\S", error="needs two characters that are not blank"),
            plain_text,
        ],
        metadata={
            "description": "an organization's id, the beginning of its slug or name, an id of Stripe's "
            "(cus_, sub_, ch_, py_, pi_, in_, re_, dp_, evt_), or a customer's e-mail address"
        },
    )


class HitSchema(Wire):
    org_id = OrgId()
    name = fields.String(allow_none=True)
    slug = fields.String(allow_none=True)
    plan = fields.String(allow_none=True)
    status = fields.String(allow_none=True)
    stripe_customer_id = fields.String(allow_none=True)
    stripe_subscription_id = fields.String(allow_none=True)
    matched = fields.String(
        metadata={
            "description": "organization, slug, name, customer, subscription, charge, payment, invoice, refund, "
            "dispute, event, e-mail"
        }
    )
    value = fields.String(metadata={"description": "what matched; of an e-mail address the customer that has it"})


class TroubleSchema(Wire):
    code = fields.String()
    detail = fields.String()


class FoundSchema(Wire):
    """At most 20 organizations, the best match first."""

    items = fields.List(fields.Nested(HitSchema))
    event_id = fields.String(
        allow_none=True, metadata={"description": "the ledger has this event, whoever it belongs to"}
    )
    strangers = fields.List(
        fields.String(),
        metadata={"description": "customers at Stripe that match and belong to no organization here"},
    )
    is_capped = fields.Boolean(metadata={"description": "there are more: say more of what you look for"})
    trouble = fields.Nested(
        TroubleSchema, allow_none=True, metadata={"description": "why Stripe could not be searched; our own side was"}
    )


@blueprint.get("/search")
@blueprint.arguments(SearchQuery, location="query")
@blueprint.response(200, FoundSchema)
@requires("customer:read")
def search(query: dict[str, Any]) -> dict[str, Any]:
    """Find organizations by an id, a name or an e-mail address."""
    return rules.describe(rules.search(query["q"].strip(), stripe=runtime.stripe))
