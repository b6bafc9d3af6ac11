"""Subscription schedules, only as far as a subscription can be managed by one."""

from ..ids import new_id
from ..lifecycle import period
from ..listing import Wanted, page
from ..metadata import merged
from ..problems import invalid, not_imitated
from ..routes import route
from ..shapes import fresh

OVER = ("canceled", "completed", "released")


@route("POST", "/v1/subscription_schedules", "from_subscription metadata")
def create(call):
    if "from_subscription" not in call.params:
        raise not_imitated("schedules that are not made from a subscription")
    books = call.books
    subscription = books.require("subscription", call.params["from_subscription"], "from_subscription", 400)
    if subscription["schedule"]:
        raise invalid(
            f"You cannot migrate a subscription that is already attached to a schedule: `{subscription['schedule']}`.",
            "from_subscription",
        )
    schedule = schedule_shape(books.now(), subscription)
    schedule["metadata"] = merged({}, call.params.get("metadata", {}))
    books.create(schedule, "subscription_schedule.created")
    books.change(subscription | {"schedule": schedule["id"]}, "customer.subscription.updated")
    return schedule


@route("GET", "/v1/subscription_schedules/{schedule}")
def retrieve(call):
    return call.books.require("subscription_schedule", call.path["schedule"])


@route("GET", "/v1/subscription_schedules", "created customer ending_before limit starting_after")
def listed(call):
    wanted = Wanted("subscription_schedule", call.params.get("created"), call.params.get("customer"))
    return page(call, wanted, "/v1/subscription_schedules")


@route("POST", "/v1/subscription_schedules/{schedule}/release", "preserve_cancel_date")
def release(call):
    books, schedule = call.books, retrieve(call)
    if schedule["status"] in OVER:
        raise invalid(
            f"You cannot release a subscription schedule that is currently in the `{schedule['status']}` "
            "status. Only subscription schedules in the `not_started` or `active` status can be released."
        )
    subscription = books.require("subscription", schedule["subscription"])
    books.change(subscription | {"schedule": None}, "customer.subscription.updated")
    return books.change(
        schedule
        | {
            "status": "released",
            "released_at": books.now(),
            "released_subscription": subscription["id"],
            "subscription": None,
            "current_phase": None,
        },
        "subscription_schedule.released",
    )


def schedule_shape(now, subscription) -> dict:
    start, end = period(subscription)
    item = subscription["items"]["data"][0]
    schedule = fresh("subscription_schedule", id=new_id("subscription_schedule"), created=now)
    schedule |= {"customer": subscription["customer"], "subscription": subscription["id"]}
    schedule["current_phase"] = {"start_date": start, "end_date": end}
    phase = schedule["phases"][0]
    phase |= {"start_date": start, "end_date": end, "currency": subscription["currency"]}
    phase["items"][0] |= dict.fromkeys(("plan", "price"), item["price"]["id"])
    phase["items"][0]["quantity"] = item.get("quantity", 1)
    return schedule
