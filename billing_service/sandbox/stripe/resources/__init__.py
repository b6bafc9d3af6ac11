"""The endpoints, a module per noun; importing this package fills the table of routes."""

from ..routes import ROUTES, find  # noqa: F401
from . import (  # noqa: F401
    accounts,
    catalogue,
    charges,
    customers,
    events,
    invoices,
    subscription_schedules,
    subscriptions,
    webhook_endpoints,
)
