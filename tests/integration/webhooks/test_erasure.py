"""Forgetting a customer: what identifies a person is gone from everything stored, and events still do their work."""

import json

import pytest
from bson import ObjectId
from mongoengine.connection import get_db

from billing_service.documents import AdminAction, AdminOperation, WebhookEvent
from billing_service.webhooks import HANDLERS, erasure, masking
from billing_service.webhooks.errands import find_errand

PERSON = {
    "name": "Ada Lovelace",
    "email": "ada@lovelace.example",
    "phone": "+44 20 7946 0000",
    "description": "the countess",
    "address": {"line1": "12 St James's Square", "city": "London", "postal_code": "SW1Y 4JH", "country": "GB"},
    "metadata": {"vat": "GB 123 4567 89"},
}
TRACES = ("Lovelace", "lovelace", "7946", "countess", "Square", "London", "SW1Y", "GB 123", "4242")


@pytest.fixture
def person(organization, stripe, subscribe, sandbox):
    """Makes a customer with personal data, a subscription and a charge that was refunded and disputed."""

    def make():
        org_id = organization()
        told = PERSON | {"metadata": PERSON["metadata"] | {"organizationId": str(org_id)}}
        customer = stripe.customers.create(told).id
        subscription = subscribe(customer)
        charge = stripe.charges.list({"customer": customer}).data[0].id
        stripe.refunds.create({"charge": charge, "amount": 100})
        dispute = sandbox.dispute(charge)["id"]
        sandbox.patch(
            dispute,
            {"evidence": {"customer_name": PERSON["name"], "customer_email_address": PERSON["email"]}},
            event="charge.dispute.closed",
        )
        return org_id, customer, subscription

    return make


@pytest.fixture
def known(person, arrive, run):
    """A person all of whose events have arrived and are handled."""
    org_id, customer, subscription = person()
    arrive(*HANDLERS, "customer.created", "charge.succeeded", "payment_method.attached")
    run()
    run(later=True)
    return org_id, customer, subscription


def traces():
    """Where in the database something of the person still is."""
    database = get_db()
    return {
        (name, trace)
        for name in database.list_collection_names()
        for each in database[name].find()
        for trace in TRACES
        if trace in json.dumps(each, default=str)
    }


def test_nothing_of_the_person_is_left(known, runtime):
    org_id, customer, _ = known
    before = WebhookEvent.objects(event_id__gt="").count()
    assert {name for name, _ in traces()} == {"webhook_events"}
    assert len({trace for _, trace in traces()}) == len(TRACES)
    found = erasure.find_holdings(customer)
    done = erasure.erase(customer, now=runtime.clock())
    assert traces() == set()
    assert done == found
    assert (done.organizations, done.events) == ((org_id,), before)
    event = WebhookEvent.objects(type="customer.subscription.created").first()
    assert event.event["data"]["object"]["customer"] == customer
    assert event.erased_at


def test_events_that_name_no_customer_are_found_by_their_organization(known, runtime):
    erasure.erase(known[1], now=runtime.clock())
    closed = WebhookEvent.objects(type="charge.dispute.closed").first()
    assert closed.stripe_customer_id is None
    assert closed.event["data"]["object"]["evidence"]["customer_name"] == masking.MASKED


def test_a_dry_run_writes_nothing(known, command_line, frozen):
    with frozen:
        code, printed, _ = command_line("forget", "--customer", known[1], "--json")
    told = json.loads(printed)
    assert (code, told["erased"], told["orgIds"]) == (0, False, [str(known[0])])
    assert told["events"] == WebhookEvent.objects(event_id__gt="").count() > 5
    assert AdminAction.objects(action="forget").count() == 0


def test_others_keep_what_is_theirs(known, person, arrive, run, runtime):
    _, other, _ = person()
    arrive("customer.subscription.created")
    run()
    erasure.erase(known[1], now=runtime.clock())
    theirs = WebhookEvent.objects(stripe_customer_id=other)
    assert theirs.count() >= 1
    assert all(each.erased_at is None for each in theirs)
    assert erasure.find_holdings("cus_unknown").facts(erased=False)["events"] == 0


def test_twice_is_once_and_it_is_recorded_without_what_was_erased(known, command_line):
    code, printed, said = command_line(
        "forget", "--customer", known[1], "--apply", "--note", "asked on 3 May", "--json"
    )
    first = json.loads(printed)
    assert (code, first["erased"], said) == (0, True, "")
    assert first["events"] > 5
    code, printed, _ = command_line("forget", "--customer", known[1], "--apply", "--json")
    assert (code, json.loads(printed)["events"]) == (0, 0)
    rows = list(AdminAction.objects(action="forget").order_by("at"))
    assert [row.outcome for row in rows] == ["pending", "succeeded"] * 2
    assert (rows[1].target, rows[1].note, rows[1].organization) == (known[1], "asked on 3 May", known[0])
    assert rows[1].parameters == {"events": first["events"], "dead_letters": first["deadLetters"]}
    assert AdminOperation.objects(kind="forget", state="done").count() == 2
    assert traces() == set()


def test_notes_are_free_text_and_are_told_of(known, command_line, client, admin):
    note = {"note": "Ada Lovelace called"}
    client.post(f"/api/admin/billing/sync/{known[0]}", json=note, headers=admin)
    code, printed, _ = command_line("forget", "--customer", known[1], "--apply")
    assert code == 0
    assert "left: 2 notes of admins" in printed
    assert {name for name, _ in traces()} == {"admin_actions", "admin_operations"}


def test_the_note_of_a_credit_is_counted_too(known, app, runtime):
    """It stays in the ledger for good."""
    from billing_service import extras

    entry = {"organization": known[0], "kind": "adjustment", "units": 5, "ref": "credit:dp_1", "at": runtime.clock()}
    extras.book(entry | {"actor": "ada@example.com", "memo": "Ada Lovelace called"})
    assert erasure.find_holdings(known[1]).notes == 1


def test_what_errors_quoted_goes_too(known, runtime, client, admin):
    """An error's words may hold what the payload held: with each attempt, in the group's name, in a batch."""
    letter = WebhookEvent.objects(type="customer.subscription.created").first()
    words = "invalid literal for int() with base 10: 'Ada Lovelace'"
    lines = [
        {"at": runtime.clock(), "error_class": "ValueError", "error_message": words},
        {"at": runtime.clock(), "outcome": "applied"},
    ]
    WebhookEvent._get_collection().update_one(
        {"_id": letter.pk}, {"$set": {"history": lines, "fingerprint": f"ValueError: {words}", "state": "dead"}}
    )
    item = {"batch": ObjectId(), "position": 0, "event_id": letter.event_id, "type": letter.type, "state": "failed"}
    get_db().replay_items.insert_one(item | {"error_class": "ValueError", "error_message": words})
    assert {name for name, _ in traces()} == {"webhook_events", "replay_items"}
    erasure.erase(known[1], now=runtime.clock())
    assert traces() == set()
    letter.reload()
    assert [(line.error_class, line.error_message, line.outcome) for line in letter.history] == [
        ("ValueError", masking.MASKED, None),
        (None, None, "applied"),
    ]
    assert letter.fingerprint == f"ValueError: {masking.MASKED}"
    assert get_db().replay_items.find_one()["error_message"] == masking.MASKED
    shown = client.get(f"/api/admin/billing/events/{letter.event_id}", headers=admin)
    assert shown.json["history"][0]["errorClass"] == "ValueError"
    fine = WebhookEvent.objects(fingerprint=None, erased_at__ne=None)
    assert fine.count() > 5
    assert not [each for each in fine.as_pymongo() if "fingerprint" in each]


def test_killed_half_way_it_goes_on_where_it_was(app, runtime, organization):
    org_id, many = organization(), 2 * erasure.BATCH + 7
    ledger = WebhookEvent._get_collection()
    ledger.insert_many(
        {
            "event_id": f"evt_{number}",
            "type": "customer.updated",
            "state": "succeeded",
            "organization": org_id,
            "stripe_customer_id": "cus_1",
            "created": runtime.clock(),
            "received_at": runtime.clock(),
            "payload": json.dumps({"data": {"object": {"object": "customer", "id": "cus_1"} | PERSON}}),
        }
        for number in range(many)
    )

    class Killed(BaseException):
        pass

    def kill(count):
        raise Killed

    with pytest.raises(Killed):
        erasure.erase("cus_1", now=runtime.clock(), progress=kill)
    assert ledger.count_documents({"erased_at": None}) == many - erasure.BATCH
    assert erasure.erase("cus_1", now=runtime.clock()).events == many - erasure.BATCH
    assert traces() == set()


def test_a_payload_that_cannot_be_read_goes_as_a_whole(app, runtime):
    now = runtime.clock()
    for number, payload in enumerate(("{Ada Lovelace", "[" * 3_000 + "Ada Lovelace")):
        WebhookEvent(
            event_id=f"evt_{number}", type="x", state="dead", created=now, received_at=now, source="delivery",
            stripe_customer_id="cus_1", payload=payload,
        ).save()  # fmt: skip
    assert erasure.erase("cus_1", now=now).dead_letters == 2
    assert WebhookEvent.objects(payload__ne=None).count() == 0
    assert erasure.erase("cus_1", now=now).events == 0


@pytest.mark.parametrize("at_stripe", [True, False])
def test_a_dead_letter_can_be_replayed_afterwards(known, runtime, run, client, admin, sandbox, at_stripe):
    org_id, customer, _ = known
    letter = WebhookEvent.objects(type="customer.subscription.created").first()
    letter.update(set__state="dead", set__dead_at=runtime.clock())
    assert erasure.erase(customer, now=runtime.clock()).dead_letters >= 1
    if not at_stripe:  # after thirty days
        sandbox.remove(letter.event_id)
    url = "/api/admin/billing/webhook/replay"
    dry = client.post(f"{url}?dryRun=true", json={"eventId": letter.event_id}, headers=admin)
    assert (dry.status_code, dry.json["outcome"]) == (200, "applied")
    asked = client.post(url, json={"eventId": letter.event_id}, headers=admin)
    assert asked.status_code == 202
    run()
    letter.reload()
    assert (letter.state, letter.outcome, letter.organization) == ("succeeded", "applied", org_id)
    assert traces() == set()


def test_what_is_delivered_again_brings_nothing_back(known, runtime, arrive, run):
    erasure.erase(known[1], now=runtime.clock())
    arrive(*HANDLERS, "customer.created")
    run()
    assert traces() == set()


def test_every_read_and_write_is_by_index(known, runtime):
    database = get_db()
    database.command("profile", 2)
    try:
        erasure.find_holdings(known[1])
        erasure.erase(known[1], now=runtime.clock())
    finally:
        database.command("profile", 0)
        seen = [each for each in database.system.profile.find() if "planSummary" in each]
        database.system.profile.drop()
    assert len(seen) > 5
    assert [each["command"] for each in seen if "COLLSCAN" in each["planSummary"]] == []


SUBJECTS = {
    "customer.subscription": "subscription",
    "customer": "customer",
    "checkout.session": "checkout.session",
    "charge.dispute": "dispute",
    "charge": "charge",
    "refund": "refund",
    "invoice": "invoice",
}


def subject_of(kind, stripe, org_id, customer, subscription, sandbox):
    """An object of Stripe's as full of personal data as it gets."""
    charge = stripe.charges.list({"customer": customer}).data[0]
    price = stripe.prices.create({"currency": "usd", "unit_amount": 500, "product_data": {"name": "Extras"}}).id
    made = {
        "subscription": lambda: stripe.subscriptions.retrieve(subscription),
        "customer": lambda: stripe.customers.retrieve(customer),
        "charge": lambda: charge,
        "refund": lambda: stripe.refunds.list({"charge": charge.id}).data[0],
        "dispute": lambda: stripe.disputes.list({"charge": charge.id}).data[0],
        "invoice": lambda: stripe.invoices.list({"customer": customer}).data[0],
        "checkout.session": lambda: stripe.checkout.sessions.create(
            {
                "mode": "payment",
                "customer": customer,
                "success_url": "https://a.example/ada@lovelace.example",
                "line_items": [{"price": price, "quantity": 1}],
                "metadata": {"organizationId": str(org_id), "kind": "extras", "packId": "pack_100k", "who": "Ada"},
            }
        ),
    }
    made_one = made[kind]()
    if kind == "checkout.session":
        sandbox.complete_checkout(made_one.id)
        made_one = stripe.checkout.sessions.retrieve(made_one.id)
    return json.loads(json.dumps(made_one.to_dict(), default=str))


@pytest.mark.parametrize("kind", sorted(HANDLERS))
def test_what_is_left_of_an_event_says_as_much_to_its_handler(known, stripe, sandbox, desk, kind):
    org_id, customer, subscription = known
    prefix = max((each for each in SUBJECTS if kind.startswith(each + ".")), key=len)
    event = sandbox.emit(kind, subject_of(SUBJECTS[prefix], stripe, org_id, customer, subscription, sandbox))
    whole = WebhookEvent(
        id=ObjectId(), event_id=event["id"], type=kind, payload=json.dumps(event), created=desk.clock(), source="replay"
    )
    left = WebhookEvent(**{name: whole[name] for name in ("id", "event_id", "type", "created", "source")})
    left.payload = json.dumps(masking.masked(event))
    assert left.payload != whole.payload
    assert told(left, desk) == told(whole, desk)


def told(event, desk):
    try:
        errand = find_errand(event, desk)
    except Exception as refusal:  # a refusal is to be the same, too
        return type(refusal), str(refusal)
    plain = {name: getattr(errand, name) for name in errand.__dataclass_fields__ if name != "signals"}
    return plain, [(each.name, each.key, each.facts) for each in errand.signals]
