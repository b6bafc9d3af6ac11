"""The organization for which Stripe never answers: a lasting fault on its customer and its subscription alone."""

from .organizations import UNREACHABLE
from .stage import Stage


def keep(stage: Stage) -> None:
    """Arm the fault unless it is armed; people clear all faults while they try things out."""
    row = stage.database.subscriptions.find_one({"organization": UNREACHABLE.object_id}) or {}
    ids = [row.get("stripe_customer_id"), row.get("stripe_subscription_id")]
    path = "/(" + "|".join(filter(None, ids)) + ")$"
    if any(ids) and not any(each["match"].get("path") == path for each in stage.control.faults()):
        # Not a 5xx: five of those in a row would open the circuit, and everybody else would be out of reach too.
        stage.control.arm("lock_timeout", path=path, times=None)
