"""The endpoints, a module per noun; to import this package is to fill the table of routes."""

from ..routes import ROUTES, find  # noqa: F401
from . import (  # noqa: F401
    accounts,
    catalogue,
    charges,
    checkout_sessions,
    customers,
    disputes,
    events,
    invoices,
    refunds,
    subscription_schedules,
    subscriptions,
    webhook_endpoints,
)
