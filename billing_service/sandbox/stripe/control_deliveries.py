"""The control plane's hold on webhook deliveries: what arrives, when, how often and in which order."""

from __future__ import annotations

import time

from .control_routes import Refusal, books_of, control
from .ids import new_id


@control("GET", "/deliveries")
def deliveries(sandbox, given):
    wanted = {name: given[name] for name in ("state", "type", "event") if name in given}
    return {"mode": sandbox.settings.delivery_mode, "items": sandbox.deliveries.listed(**wanted)}


@control("POST", "/deliveries")
def mode(sandbox, given):
    return {"mode": sandbox.settings.change({"delivery_mode": given["mode"]})["delivery_mode"]}


@control("POST", "/deliveries/release")
def release(sandbox, given):
    """One after the other, in the order given; without `wait` they are only made due."""
    rows = sandbox.store.all("SELECT id, state FROM deliveries WHERE state IN ('held', 'pending') ORDER BY position")
    waiting = [row["id"] for row in rows]
    wanted = given.get("ids", [row["id"] for row in rows if row["state"] == "held"])
    unknown = [delivery for delivery in wanted if delivery not in waiting]
    if unknown:
        raise Refusal(404, f"not waiting: {', '.join(unknown)}")
    if given.get("wait", True):
        return {"items": [sandbox.deliveries.attempt(delivery) for delivery in wanted]}
    for delivery in wanted:
        change(sandbox, delivery, "state = 'pending', next_attempt_at = 0")
    return {"items": [{"id": delivery, "state": "pending"} for delivery in wanted]}


@control("POST", "/deliveries/{delivery}/drop")
def drop(sandbox, given, delivery):
    return change(sandbox, delivery, "state = 'dropped'")


@control("POST", "/deliveries/{delivery}/duplicate")
def duplicate(sandbox, given, delivery):
    """The same event once more, right behind the first."""
    row = existing(sandbox, delivery)
    again = {
        **dict(row),
        "id": new_id("del_"),
        "position": row["position"] + 0.001,
        "attempts": 0,
        "next_attempt_at": sandbox.clock.now(),
    }
    again["state"] = "held" if row["state"] == "held" or sandbox.settings.delivery_mode == "hold" else "pending"
    with sandbox.store.transaction():
        names = ", ".join(again)
        sandbox.store.run(
            f"INSERT INTO deliveries ({names}) VALUES ({', '.join('?' * len(again))})", tuple(again.values())
        )
    sandbox.deliveries.wake()
    return sandbox.deliveries.described(existing(sandbox, again["id"]))


@control("POST", "/deliveries/{delivery}/delay")
def delay(sandbox, given, delivery):
    """Sent in so many seconds of real time, also when deliveries are held."""
    existing(sandbox, delivery)
    return change(
        sandbox, delivery, "state = 'pending', next_attempt_at = 0, not_before = ?", time.time() + given["seconds"]
    )


@control("POST", "/deliveries/{delivery}/reorder")
def reorder(sandbox, given, delivery):
    """To this place among those that wait, the first being 0."""
    rows = sandbox.store.all(
        "SELECT id FROM deliveries WHERE state IN ('held', 'pending') AND id != ? ORDER BY position", (delivery,)
    )
    order = [row["id"] for row in rows]
    order.insert(given["position"], delivery)
    with sandbox.store.transaction():
        for position, one in enumerate(order):
            change(sandbox, one, "position = ?", position)
    return {"items": order}


@control("POST", "/events/{event}/resend")
def resend(sandbox, given, event):
    books = books_of(sandbox, given)
    found = books.require("event", event)
    endpoints = (
        [given["endpoint"]]
        if given.get("endpoint")
        else [endpoint["id"] for endpoint in books.query("webhook_endpoint", "status = 'enabled'", order="seq")]
    )
    with sandbox.store.transaction():
        added = [sandbox.deliveries.add(books.account, found, endpoint) for endpoint in endpoints]
    sandbox.deliveries.wake()
    return {"items": added}


def existing(sandbox, delivery):
    row = sandbox.deliveries.row(delivery)
    if not row:
        raise Refusal(404, f"no delivery {delivery}")
    return row


def change(sandbox, delivery, assignment, *values):
    existing(sandbox, delivery)
    with sandbox.store.transaction():
        sandbox.store.run(f"UPDATE deliveries SET {assignment} WHERE id = ?", (*values, delivery))
    sandbox.deliveries.wake()
    return sandbox.deliveries.described(existing(sandbox, delivery))
