"""Why a subscription can be mapped to no organization, and what to do about it."""

REASONS = {
    "organization_missing": "Neither it nor its customer names an organization: set metadata.organizationId at Stripe.",
    "foreign": "It names no organization and has no price of the plan file: another product's. If not, set both right.",
    "organization_invalid": "metadata.organizationId is not 24 hexadecimal characters: correct it at Stripe.",
    "organization_unknown": "It names an organization that is not known here: tell of it (PUT organizations).",
    "organization_conflict": "It and its customer, or its row here, name two organizations: correct the metadata.",
    "customer_shared": "Its customer is of several organizations: here one customer serves one organization.",
    "several_live_subscriptions": "Its organization is billed by more than one: cancel the one that is not wanted.",
    "plan_unresolved": "Its price stands for no plan: add it to the file BILLING_PLANS names.",
    "subscription_gone": "Stripe does not show it any more.",
    "unreadable": "Stripe's answer about it could not be read: look at it there.",
}
