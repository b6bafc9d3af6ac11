"""POST /api/admin/billing/dispute/credit/{orgId}"""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from types import SimpleNamespace

import pytest
from bson import ObjectId
from mongoengine.connection import get_db

from billing_service import extras
from billing_service.documents import AdminAction, AdminOperation, Candidate, LedgerEntry, Subscription

BASE = "/api/admin/billing/dispute/credit/"
PACK, PAID = 100_000, 4_900


def credit(client, headers, it, amount=PAID, number=1, query="", **more):
    body = {"chargeId": it.charge.id, "amountCents": amount, "refundRequestId": f"credit-{number}"} | more
    return client.post(f"{BASE}{it.org_id}{query}", headers=headers, json=body)


def paid_by(org_id, charge):
    """Who asks for the credit of which charge."""
    return SimpleNamespace(org_id=org_id, charge=charge)


def another(sandbox, it, outcome="won"):
    """A second dispute of the same charge: the bank of the sandbox allows one at a time, Stripe several."""
    dispute_id = it.dispute + "2"
    sandbox.patch(it.dispute, {"id": dispute_id, "status": outcome})
    return dispute_id


def test_it_works(client, admin, disputed):
    it = disputed()
    assert it.balance == 0
    answer = credit(client, admin, it, note="won on 2026-11-20")
    assert answer.status_code == 200
    assert answer.json == {
        "orgId": str(it.org_id),
        "disputeId": it.dispute,
        "chargeId": it.charge.id,
        "refundRequestId": "credit-1",
        "amountCents": PAID,
        "currency": "usd",
        "units": PACK,
        "applied": True,
        "previous": {"units": 0},
        "updated": {"units": PACK},
        "changed": ["units"],
    }
    [entry] = it.credits
    assert (entry.units, entry.ref, entry.remaining) == (PACK, f"dispute_credit:{it.dispute}", PACK)
    assert (entry.actor, entry.memo, entry.charge) == ("ada@example.com", "won on 2026-11-20", it.charge.id)
    assert it.balance == PACK


def test_who_why_and_how_much_is_in_the_audit(client, admin, disputed):
    it = disputed()
    credit(client, admin, it, 1_000, note="goodwill")
    intent, outcome = AdminAction.objects(action="dispute_credit").order_by("at", "id")
    assert (intent.phase, intent.outcome, intent.parameters["amount_cents"]) == ("intent", "pending", 1_000)
    assert (outcome.phase, outcome.outcome, outcome.note) == ("outcome", "succeeded", "goodwill")
    assert (outcome.organization, outcome.actor) == (it.org_id, "ada@example.com")
    told = client.get(f"/api/admin/billing/audit?orgId={it.org_id}", headers=admin).json["items"][0]["parameters"]
    assert (told["disputeId"], told["units"]) == (it.dispute, 20_408)
    assert (told["previous"], told["updated"]) == ({"units": 0}, {"units": 20_408})


def test_twice_is_once(client, admin, token, disputed):
    it = disputed()
    credit(client, admin, it)
    for headers, number in ((admin, 1), (admin, 2), (token("admin", actor="bob@example.com"), 3)):
        again = credit(client, headers, it, number=number)
        assert (again.status_code, again.json["applied"], again.json["changed"]) == (200, False, [])
        assert (again.json["units"], again.json["refundRequestId"]) == (PACK, "credit-1")
        assert again.json["previous"] == again.json["updated"] == {"units": PACK}
    assert (len(it.credits), it.balance) == (1, PACK)


def test_another_amount_does_not_credit_the_dispute_again(client, admin, disputed):
    it = disputed()
    credit(client, admin, it, 2_450)
    again = credit(client, admin, it, 2_450, number=2)
    assert (again.status_code, again.json["applied"], again.json["amountCents"]) == (200, False, 2_450)
    assert (len(it.credits), it.balance) == (1, PACK // 2)


@pytest.mark.parametrize(
    ("amount", "units"), [(PAID, PACK), (2_450, 50_000), (1, 20), (49, 1_000), (4_899, 99_979), (3_333, 68_020)]
)
def test_units_follow_from_the_amount_rounded_down(client, admin, disputed, amount, units):
    it = disputed()
    assert credit(client, admin, it, amount).json["units"] == units
    assert it.balance == units


def test_a_debit_that_names_no_payment_gives_back_its_own_units(client, admin, disputed):
    it = disputed()
    LedgerEntry.objects(kind="debit").update(unset__payment_intent=1, unset__lot=1)
    assert credit(client, admin, it, 2_450).json["units"] == PACK // 2


def test_large_numbers_are_exact(client, admin, disputed):
    it = disputed(units=9_007_199_254_740_993)
    assert credit(client, admin, it).json["units"] == 9_007_199_254_740_993


def test_at_most_what_was_withdrawn(client, admin, disputed, frozen):
    it = disputed()
    with frozen:
        answer = credit(client, admin, it, PAID + 1)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request")
    assert answer.json["errors"] == {"amountCents": [f"is more than the {PAID} that the dispute withdrew"]}


def test_less_than_a_unit_would_spend_the_dispute_for_nothing(client, admin, disputed, frozen):
    it = disputed(units=10)
    with frozen:
        answer = credit(client, admin, it, 489)
    assert (answer.status_code, answer.json["errors"]) == (422, {"amountCents": ["is less than one unit"]})
    assert credit(client, admin, it, 490, number=2).json["units"] == 1


@pytest.mark.parametrize(("outcome", "shown"), [(None, "needs_response"), ("lost", "lost")])
def test_a_dispute_that_was_not_won_is_refused(client, admin, disputed, frozen, outcome, shown):
    it = disputed(outcome)
    with frozen:
        for query in ("", "?dryRun=true"):
            answer = credit(client, admin, it, query=query)
            assert (answer.status_code, answer.json["code"]) == (409, "dispute_not_won")
            assert f"{it.dispute} ({shown})" in answer.json["detail"]


def test_a_charge_without_a_dispute_and_an_inquiry_are_refused(client, admin, billed, stripe, sandbox, frozen):
    it = billed("pro")
    charge = stripe.charges.list({"customer": it.customer}).data[0]
    never = paid_by(it.org_id, charge)
    assert credit(client, admin, never).json["code"] == "dispute_not_won"
    inquiry = sandbox.dispute(charge.id, inquiry=True)["id"]
    sandbox.close_dispute(inquiry, "warning_closed")
    with frozen:
        answer = credit(client, admin, never, number=2)
    assert (answer.status_code, answer.json["code"]) == (409, "dispute_not_won")


def test_without_its_debit_there_is_nothing_to_credit(client, admin, disputed, frozen, took):
    it = disputed(booked=False)
    with frozen:
        answer = credit(client, admin, it)
    assert (answer.status_code, answer.json["code"]) == (409, "nothing_to_credit")
    assert "charge.dispute.funds_withdrawn" in answer.json["detail"]
    took(it.org_id, it.charge, it.dispute)
    assert credit(client, admin, it, number=2).json["applied"] is True


def test_the_debit_of_another_organization_is_none(client, admin, disputed, organization, took, frozen):
    it = disputed(booked=False)
    took(organization(), it.charge, it.dispute)
    with frozen:
        assert credit(client, admin, it).json["code"] == "nothing_to_credit"


def test_a_charge_of_another_organization_is_refused(client, admin, disputed, billed, frozen):
    it, other = disputed(), billed("pro")
    with frozen:
        answer = credit(client, admin, paid_by(other.org_id, it.charge))
    assert (answer.status_code, answer.json["code"]) == (422, "charge_unknown")
    assert it.balance == 0


@pytest.mark.parametrize("how", ["candidate", "metadata", "ledger"])
def test_a_charge_may_be_the_organizations_in_another_way(client, admin, disputed, sandbox, how):
    """Its customer is that of a candidate, or the charge names the organization, or only the ledger knows the guest."""
    it = disputed()
    row = Subscription.objects(organization=it.org_id).first()
    changes = {"set__stripe_customer_id": None}
    if how == "candidate":
        seen = [Candidate(stripe_subscription_id="sub_2", stripe_customer_id=it.charge.customer)]
        changes["set__candidates"] = seen
    if how == "metadata":
        sandbox.patch(it.charge.id, {"metadata": {"organizationId": str(it.org_id)}})
        LedgerEntry.objects(kind="topup").update(unset__payment_intent=1)
        LedgerEntry.objects(kind="debit").update(unset__payment_intent=1)
    Subscription.objects(id=row.pk).update_one(**changes)
    assert credit(client, admin, it).json["applied"] is True


def test_an_unknown_charge_is_named(client, admin, disputed, frozen):
    it = disputed()
    with frozen:
        answer = credit(client, admin, it, chargeId="ch_unknown")
    assert (answer.status_code, answer.json["code"]) == (422, "stripe_missing")


def test_an_unknown_organization_is_404(client, admin, disputed):
    it = disputed()
    answer = credit(client, admin, paid_by(ObjectId(), it.charge))
    assert (answer.status_code, answer.json["code"]) == (404, "organization_not_found")


def test_an_id_means_one_credit(client, admin, disputed, frozen):
    it, other = disputed(), disputed()
    credit(client, admin, it, 1_000)
    cases = [
        (it, {"amountCents": 1_001}),
        (it, {"disputeId": "du_other"}),
        (other, {}),
        (paid_by(it.org_id, other.charge), {}),
    ]
    for of, change in cases:
        for query in ("", "?dryRun=true"):
            with frozen:
                answer = credit(client, admin, of, 1_000, query=query, **change)
            assert (answer.status_code, answer.json["code"]) == (409, "credit_request_mismatch"), change
    assert credit(client, admin, it, 1_000, disputeId=it.dispute).json["applied"] is False
    assert (it.balance, other.balance) == (20_408, 0)


def test_an_id_is_answered_without_stripe(client, admin, disputed, sandbox):
    it = disputed()
    credit(client, admin, it)
    sandbox.arm("drop", times=None)
    again = credit(client, admin, it)
    assert (again.status_code, again.json["applied"], again.json["units"]) == (200, False, PACK)


def test_of_several_that_were_won_one_must_be_named(client, admin, disputed, sandbox, took, frozen):
    it = disputed()
    second = another(sandbox, it)
    took(it.org_id, it.charge, second, units=30_000, amount=1_470)
    with frozen:
        answer = credit(client, admin, it, 1_470)
    assert (answer.status_code, answer.json["code"]) == (409, "several_disputes")
    assert sorted(each["id"] for each in answer.json["disputes"]) == sorted([it.dispute, second])
    assert credit(client, admin, it, 1_470, number=2, disputeId=second).json["units"] == 30_000
    assert credit(client, admin, it, PAID, number=3, disputeId=it.dispute).json["units"] == PACK
    # Whoever repeats a call that named none must not credit the other one.
    assert credit(client, admin, it, number=4).json["code"] == "several_disputes"
    assert len(it.credits) == 2


def test_a_lost_one_beside_a_won_one_needs_no_naming(client, admin, disputed, sandbox, took):
    it = disputed()
    lost = another(sandbox, it, "lost")
    took(it.org_id, it.charge, lost)
    assert credit(client, admin, it).json["disputeId"] == it.dispute
    answer = credit(client, admin, it, number=2, disputeId=lost)
    assert (answer.status_code, answer.json["code"]) == (409, "dispute_not_won")


def test_what_was_owed_is_paid_first_and_the_rest_lasts_as_long_as_it_would_have(client, admin, disputed, runtime):
    taken_at = runtime.clock() - timedelta(days=100)
    it = disputed(at=taken_at)
    extras.book(
        {
            "organization": it.org_id,
            "kind": "debit",
            "units": -30_000,
            "ref": "usage:1",
            "at": runtime.clock(),
        }
    )
    answer = credit(client, admin, it)
    assert (answer.json["previous"], answer.json["updated"]) == ({"units": -30_000}, {"units": 70_000})
    [entry] = it.credits
    lot = LedgerEntry.objects(kind="topup", organization=it.org_id).first()
    assert entry.remaining == 70_000
    assert entry.expires_at - entry.at == lot.expires_at - taken_at


def test_equal_calls_at_once_book_once(app, admin, disputed):
    it = disputed()
    for number in (1, None):  # the same id, then ids of their own

        def post(each, number=number):
            return credit(app.test_client(), admin, it, number=number or each)

        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(post, range(10, 16)))
        assert {each.status_code for each in answers} == {200}
        assert [each.json["applied"] for each in answers].count(True) == (1 if number else 0)
    assert (len(it.credits), it.balance) == (1, PACK)
    assert AdminAction.objects(action="dispute_credit", phase="outcome", outcome="succeeded").count() == 12


def test_one_id_for_two_credits_at_once_books_one(app, admin, disputed):
    its = [disputed() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda it: credit(app.test_client(), admin, it), its))
    assert sorted(each.status_code for each in answers) == [200, 409, 409, 409]
    assert {each.json.get("code") for each in answers} == {None, "credit_request_mismatch"}
    assert sum(len(it.credits) for it in its) == 1


def test_the_same_key_gives_the_same_answer(client, admin, disputed):
    it = disputed()
    headers = admin | {"Idempotency-Key": "credit"}
    first, again = (credit(client, headers, it) for _ in range(2))
    assert (first.json, first.json["applied"]) == (again.json, True)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert credit(client, headers, it, 1).status_code == 422
    assert len(it.credits) == 1


def test_the_credit_and_its_record_stand_or_fall_together(client, admin, disputed):
    """An attempt that was taken over by another one has booked nothing."""
    from billing_service.errors import IdempotencyInProgress
    from billing_service.operations import Asked, perform

    it = disputed()
    runtime = client.application.extensions["billing"]
    asked = Asked("dispute_credit", str(it.org_id), it.org_id, "ada", "admin", "POST /x", {}, idempotency_key="slow")
    wanted = extras.Wanted(it.charge.id, PAID, "credit-1")

    def slow(running):
        AdminOperation.objects(id=running.record.pk).update_one(inc__attempt=1)
        told = {"actor": "ada", "note": None, "also": running.complete}
        return extras.credit_dispute(it.org_id, wanted, stripe=runtime.stripe, now=runtime.clock(), **told)

    with pytest.raises(IdempotencyInProgress):
        perform(asked, runtime.clock, slow)
    assert (it.credits, it.balance) == ([], 0)


def test_a_dry_run_writes_nothing(client, admin, disputed, frozen):
    it = disputed()
    with frozen:
        answer = credit(client, admin, it, 2_450, query="?dryRun=true")
    assert (answer.status_code, answer.json["dryRun"], answer.json["applied"]) == (200, True, True)
    assert (answer.json["units"], answer.json["updated"]) == (50_000, {"units": 50_000})
    assert len(AdminAction.objects) == 0
    credit(client, admin, it, 2_450)
    with frozen:
        again = credit(client, admin, it, 2_450, number=2, query="?dryRun=true")
    assert (again.json["applied"], again.json["changed"]) == (False, [])


def test_it_reports_stripe_down(client, admin, disputed, sandbox, frozen):
    it = disputed()
    for path in ("/v1/charges/", "/v1/disputes"):
        sandbox.arm("drop", path=path, times=None)
        with frozen:
            answer = credit(client, admin, it)
        assert (answer.status_code, answer.json["code"]) == (502, "stripe_unavailable")
        sandbox.disarm()
        client.application.extensions["billing"].stripe.circuit.succeeded()
    assert credit(client, admin, it).json["applied"] is True


def test_stripe_is_only_read(client, admin, disputed, sandbox):
    it = disputed()
    sandbox.clear_requests()
    credit(client, admin, it)
    asked = [(each["method"], each["path"]) for each in sandbox.requests()["items"]]
    assert sorted(asked) == [("GET", f"/v1/charges/{it.charge.id}"), ("GET", "/v1/disputes")]


def test_it_needs_a_token(client, disputed, frozen):
    it = disputed()
    with frozen:
        assert credit(client, {}, it).status_code == 401


def test_it_needs_the_permission(client, token, disputed, frozen):
    it = disputed()
    with frozen:
        answer = credit(client, token("support"), it)
    assert (answer.status_code, answer.json["code"]) == (403, "forbidden")
    assert credit(client, token("billing-ops"), it).json["applied"] is True


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"chargeId": None}, "chargeId"),
        ({"chargeId": "pi_1"}, "chargeId"),
        ({"chargeId": "ch_1/../x"}, "chargeId"),
        ({"chargeId": {"$ne": None}}, "chargeId"),
        ({"amountCents": 0}, "amountCents"),
        ({"amountCents": -1}, "amountCents"),
        ({"amountCents": 10**12}, "amountCents"),
        ({"amountCents": "100"}, "amountCents"),
        ({"amountCents": 1.5}, "amountCents"),
        ({"amountCents": True}, "amountCents"),
        ({"refundRequestId": "short"}, "refundRequestId"),
        ({"refundRequestId": "x" * 129}, "refundRequestId"),
        ({"refundRequestId": "credit-1\n"}, "refundRequestId"),
        ({"refundRequestId": {"$gt": ""}}, "refundRequestId"),
        ({"disputeId": "ch_1"}, "disputeId"),
        ({"units": 5}, "units"),
    ],
)
def test_it_rejects_bad_input(client, admin, disputed, frozen, change, field):
    it = disputed()
    with frozen:
        answer = credit(client, admin, it, **change)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request")
    assert list(answer.json["errors"]) == [field]


def test_what_is_left_out_is_named(client, admin, disputed):
    answer = client.post(f"{BASE}{disputed().org_id}", headers=admin, json={})
    assert sorted(answer.json["errors"]) == ["amountCents", "chargeId", "refundRequestId"]


def test_no_query_scans_a_collection(client, admin, disputed, sandbox):
    it, other, now = disputed(), disputed(), client.application.extensions["billing"].clock()
    Subscription.objects(organization=other.org_id).update_one(set__stripe_customer_id=None)
    database = get_db()
    database.command("profile", 2)
    try:
        for number in (1, 1, 2):
            assert credit(client, admin, it, number=number).status_code == 200
        assert credit(client, admin, other, number=3).status_code == 200
        assert credit(client, admin, other, number=4, query="?dryRun=true").status_code == 200
        extras.book({"organization": it.org_id, "kind": "debit", "units": -5, "ref": "usage:1", "at": now})
    finally:
        database.command("profile", 0)
        seen = [each for each in database.system.profile.find() if "planSummary" in each]
        database.system.profile.drop()
    mine = [each for each in seen if each["ns"].split(".", 1)[1] in ("ledger_entries", "extra_balances")]
    assert len(mine) > 10
    assert [each["command"] for each in seen if "COLLSCAN" in each["planSummary"]] == []
