"""Events of customers: the deletion of one ends what it was billed for."""

from typing import Any

from ...documents import WebhookEvent
from ..ownership import known_owner
from .registry import Desk, Errand, handles


@handles("customer.deleted")
def follow_deleted_customer(event: WebhookEvent, subject: dict[str, Any], desk: Desk) -> Errand:
    """Decide anew for the organization whose customer, or a candidate's, is gone; nobody's is ignored."""
    owner = known_owner(None, subject["id"])
    return Errand(owner, look=owner is not None, customers=(subject["id"],), deleted_customer=subject["id"])
