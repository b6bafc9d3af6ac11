"""What must hold when all is quiet: read from the database, from MongoDB's own log of writes, and from Stripe."""

from collections import Counter, defaultdict
from datetime import UTC, datetime

from tests.e2e.test_load.load import everything

FINAL = ("succeeded", "dead", "closed")
ENDED = ("canceled", "incomplete_expired")
LIVE = ("trialing", "active", "past_due")
# Writes that no event asks for: a look that is due, and admins.
UNASKED = ("verify", "bump", "link")


def told(event: dict | None, event_id: str = "") -> str:
    """An event's whole story in a few lines, for who has to find out why."""
    if event is None:
        return f"{event_id}: not in the ledger"
    names = ("type", "state", "outcome", "reason", "attempts", "deferrals", "lease_losses", "lease_until")
    facts = ", ".join(f"{name}={event[name]}" for name in (*names, "next_attempt_at") if name in event)
    lines = [
        f"    {line['at']:%H:%M:%S} {line['source']} {line.get('error_class', 'good')} {line.get('error_message', '')}"
        for line in event.get("history", [])
    ]
    return "\n".join([f"{event['event_id']}: {facts}", *lines])


def unsettled(database) -> list[dict]:
    """The events that have no end yet."""
    return list(database.webhook_events.find({"state": {"$nin": FINAL}}, {"payload": 0}))


def counts(database) -> dict:
    """What the run came to, as the ledger tells it."""
    events = list(database.webhook_events.find({}, {"state": 1, "outcome": 1, "history": 1}))
    errors = Counter(
        line["error_class"] for each in events for line in each.get("history", []) if "error_class" in line
    )
    losses = errors.pop("LeaseExpired", 0)
    ends = Counter(f"{each['state']} {each.get('outcome', '')}".strip() for each in events)
    return {"ends": dict(ends), "deferrals": dict(errors), "leases lost": losses}


def assert_none_is_lost(database, accepted) -> None:
    """Accepted minus final is nothing, and each is there once."""
    stored = Counter(each["event_id"] for each in database.webhook_events.find({}, {"event_id": 1}))
    assert [each for each, times in stored.items() if times > 1] == []
    events = {each["event_id"]: each for each in database.webhook_events.find({}, {"payload": 0})}
    lost = [each for each in accepted if each not in events or events[each]["state"] not in FINAL]
    story = "\n".join(told(events.get(each), each) for each in lost[:10])
    assert not lost, f"{len(lost)} events were answered 2xx and have no end:\n{story}"
    assert not (rest := unsettled(database)), "\n".join(told(each) for each in rest[:10])


def assert_stripe_has_told_of_everything(base: str, accepted) -> None:
    """Nothing that happened at Stripe was left out of the load."""
    assert [each["id"] for each in everything(f"{base}/v1/events") if each["id"] not in accepted] == []


def assert_none_failed(database) -> None:
    """An outage is nobody's attempt: every event came to its good end, and only one line says so."""
    wrong = []
    for event in database.webhook_events.find({}, {"payload": 0}):
        good = [line for line in event.get("history", []) if "error_class" not in line]
        received = event["outcome"] == "ignored" and not event.get("history")  # nobody handles its type
        if event["state"] != "succeeded" or event["attempts"] or not (received or len(good) == 1):
            wrong.append(event)
    assert not wrong, f"{len(wrong)} events:\n" + "\n".join(told(each) for each in wrong[:10])


def assert_each_was_applied_once(mongo, database) -> None:
    """Every write to a row stands in one transaction with the good end of an event, every event has one such end.

    Read from the replica set's log of writes, not from what the service says of itself.
    """
    names = {each["_id"]: each["event_id"] for each in database.webhook_events.find({}, {"event_id": 1})}
    inserted, ends, versions, unexplained = 0, Counter(), defaultdict(list), []
    source: dict = {}
    for writes in committed(mongo, database.name):
        settled = [each for each in writes if each[0] == "webhook_events" and each[2].get("state") == "succeeded"]
        ends.update(names[each[1]] for each in settled)
        inserted += sum(each[0] == "webhook_events" and "payload" in each[2] for each in writes)
        for _, row_id, fields in (each for each in writes if each[0] == "subscriptions"):
            source[row_id] = fields.get("synced_from", source.get(row_id))
            versions[row_id].append(fields["version"])
            if source[row_id] not in UNASKED and not settled:
                unexplained.append((row_id, source[row_id], fields["version"]))
    assert inserted == len(names), "the log does not go back to the beginning"
    assert set(ends) == set(names.values())
    assert {each: times for each, times in ends.items() if times > 1} == {}
    assert unexplained == []
    assert {row: found for row, found in versions.items() if found != list(range(1, len(found) + 1))} == {}


def committed(mongo, name: str):
    """Each transaction (or lone write), oldest first: what it wrote, as (collection, id, fields set)."""
    for entry in mongo.local["oplog.rs"].find({"op": {"$in": ["c", "i", "u"]}}).sort("$natural", 1):
        writes = entry["o"].get("applyOps", []) if entry["op"] == "c" else [entry]
        assert not entry["o"].get("partialTxn"), "a transaction in several entries"
        yield [
            (each["ns"].partition(".")[2], each.get("o2", each["o"])["_id"], fields_set(each["o"]))
            for each in writes
            if each["op"] in "iu" and each["ns"].startswith(f"{name}.")
        ]


def fields_set(change: dict) -> dict:
    """The top-level fields that a log entry sets, be it a whole document or a difference."""
    if "diff" not in change:
        return change
    return change["diff"].get("u", {}) | change["diff"].get("i", {})


def assert_rows_are_as_at_stripe(database, base: str, organizations: dict) -> None:
    """Each organization's row shows what its customer has at Stripe; its plan follows."""
    live = defaultdict(list)
    for each in everything(f"{base}/v1/subscriptions", status="all"):
        live[each["customer"]].append(each)
    rows = {
        each["stripe_customer_id"]: each for each in database.subscriptions.find({"stripe_customer_id": {"$gt": ""}})
    }
    assert set(rows) == set(live)
    wrong = {}
    for customer, found in live.items():
        row = rows[customer]
        organization = database.organizations.find_one({"_id": row["organization"]})
        expected = as_at_stripe(found) | {"organization": organizations[customer], "organization's plan": row["plan"]}
        shown = {name: row.get(name) for name in expected} | {
            "organization": str(row["organization"]),
            "organization's plan": organization["plan"],
        }
        if shown != expected:
            wrong[customer] = {
                name: (shown[name], expected[name]) for name in expected if shown[name] != expected[name]
            }
    assert not wrong, f"(stored, at Stripe) of {len(wrong)} customers: {wrong}"


def as_at_stripe(found: list[dict]) -> dict:
    """What the row must hold: the subscription that has not ended, else the newest."""
    open_ones = [each for each in found if each["status"] not in ENDED]
    chosen = max(open_ones or found, key=lambda each: (each["created"], each["id"]))
    item = chosen["items"]["data"][0]
    return {
        "stripe_subscription_id": chosen["id"],
        "status": chosen["status"],
        "price_id": item["price"]["id"],
        "plan": item["price"]["metadata"]["planId"] if chosen["status"] in LIVE else "free",
        "current_period_end": datetime.fromtimestamp(item["current_period_end"], UTC),
        "cancel_at_period_end": chosen["cancel_at_period_end"],
        "cancel_at": datetime.fromtimestamp(chosen["cancel_at"], UTC) if chosen["cancel_at"] else None,
    }


def assert_transitions_are_a_chain(database) -> None:
    """Each signal is there once, and each change of plan begins where the one before it ended."""
    signals = list(database.outbox.find().sort([("subscription", 1), ("version", 1)]))
    assert [each for each, times in Counter(each["key"] for each in signals).items() if times > 1] == []
    told_of = Counter((each["subscription"], each["version"], each["name"]) for each in signals)
    assert [each for each, times in told_of.items() if times > 1] == []
    plans, broken = {}, []
    for each in (each for each in signals if each["name"] == "plan_changed"):
        if each["facts"]["from"] != plans.get(each["subscription"], "free"):
            broken.append(each)
        plans[each["subscription"]] = each["facts"]["to"]
    assert broken == []
    rows = {each["_id"]: each["plan"] for each in database.subscriptions.find()}
    assert {row: (plans.get(row, "free"), plan) for row, plan in rows.items() if plans.get(row, "free") != plan} == {}
