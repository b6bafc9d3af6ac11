"""POST /api/admin/billing/users"""

import threading

import pytest

from billing_service.documents import AdminAction, AdminOperation, AdminUser

URL = "/api/admin/billing/users"
PASSWORD = "correct horse battery"
BODY = {"email": "grace@example.com", "password": PASSWORD, "roles": ["support", "auditor"]}


def test_it_works(client, admin):
    answer = client.post(URL, headers=admin, json=BODY | {"note": "joins on Monday"})
    assert answer.status_code == 201
    user = AdminUser.objects(email="grace@example.com").first()
    shown = {"id": str(user.pk), "email": "grace@example.com", "roles": ["auditor", "support"], "disabled": False}
    assert {name: answer.json["updated"][name] for name in shown} == shown
    assert answer.json["previous"] is None
    assert answer.json["changed"] == ["email", "roles", "disabled", "password"]
    assert user.password_hash.startswith("$argon2id$")
    body = {"email": "grace@example.com", "password": PASSWORD}
    assert client.post("/api/auth/login", json=body).json["user"]["roles"] == ["auditor", "support"]


def test_it_needs_a_token(client, frozen):
    with frozen:
        answer = client.post(URL, json=BODY)
    assert (answer.status_code, answer.json["code"]) == (401, "unauthorized")


@pytest.mark.parametrize("role", ["billing-ops", "support", "auditor", "service"])
def test_it_needs_the_permission(client, token, frozen, role):
    with frozen:
        answer = client.post(URL, headers=token(role), json=BODY)
    assert (answer.status_code, answer.json["code"]) == (403, "forbidden")
    assert "user:write" in answer.json["detail"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"email": ...}, "email"),
        ({"password": ...}, "password"),
        ({"roles": ...}, "roles"),
        ({"email": "grace"}, "email"),
        ({"email": {"$gt": ""}}, "email"),
        ({"email": "grace@example.com\n"}, "email"),
        ({"email": "gr\u202eace@example.com"}, "email"),
        ({"email": f"{'a' * 190}@example.com"}, "email"),
        ({"email": "a" * 900_000}, "email"),
        ({"password": "elevenchars"}, "password"),
        ({"password": "x" * 257}, "password"),
        ({"password": "long enough\x00, though"}, "password"),
        ({"password": ["correct", "horse", "battery"]}, "password"),
        ({"password": "Grace@example.com"}, "password"),
        ({"password": "abababababababab"}, "password"),
        ({"roles": []}, "roles"),
        ({"roles": ["root"]}, "roles"),
        ({"roles": "admin"}, "roles"),
        ({"roles": [{"$gt": ""}]}, "roles"),
        ({"roles": ["admin"] * 6}, "roles"),
        ({"disabled": True}, "disabled"),
        ({"passwordHash": "x"}, "passwordHash"),
        ({"note": "\x00"}, "note"),
    ],
)
@pytest.mark.parametrize("query", ["", "?dryRun=true"])
def test_it_rejects_bad_input(client, admin, frozen, changes, field, query):
    body = {name: value for name, value in (BODY | changes).items() if value is not ...}
    with frozen:
        answer = client.post(URL + query, headers=admin, json=body)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request")
    assert list(answer.json["errors"]) == [field]
    assert PASSWORD not in answer.text
    assert len(AdminUser.objects) == 0


def test_twice_is_once(client, admin):
    assert client.post(URL, headers=admin, json=BODY).status_code == 201
    again = client.post(URL, headers=admin, json=BODY | {"email": "GRACE@example.com"})
    assert (again.status_code, again.json["code"]) == (409, "user_exists")
    assert len(AdminUser.objects) == 1


def test_the_same_key_gives_the_same_answer(client, admin):
    headers = admin | {"Idempotency-Key": "k1"}
    first = client.post(URL, headers=headers, json=BODY)
    again = client.post(URL, headers=headers, json=BODY)
    assert (again.status_code, again.json) == (201, first.json)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert len(AdminUser.objects) == 1


def test_another_password_is_another_request(client, admin):
    """What is compared is a digest, which is of no use without the service's key."""
    headers = admin | {"Idempotency-Key": "k1"}
    client.post(URL, headers=headers, json=BODY)
    other = client.post(URL, headers=headers, json=BODY | {"password": "another good password"})
    assert (other.status_code, other.json["code"]) == (422, "idempotency_mismatch")


def test_a_dry_run_writes_nothing(client, admin, frozen):
    with frozen:
        answer = client.post(f"{URL}?dryRun=true", headers=admin, json=BODY)
    assert (answer.status_code, answer.json["dryRun"], answer.json["updated"]["id"]) == (200, True, None)
    assert len(AdminUser.objects) == len(AdminAction.objects) == len(AdminOperation.objects) == 0
    client.post(URL, headers=admin, json=BODY)
    taken = client.post(f"{URL}?dryRun=true", headers=admin, json=BODY)
    assert (taken.status_code, taken.json["code"]) == (409, "user_exists")


def test_it_is_recorded_before_and_after(client, admin):
    client.post(URL, headers=admin, json=BODY | {"note": "joins on Monday"})
    intent, outcome = client.get("/api/admin/billing/audit?action=create_user", headers=admin).json["items"][::-1]
    assert (intent["phase"], intent["outcome"], intent["before"]) == ("intent", "pending", {})
    assert (outcome["phase"], outcome["outcome"], outcome["note"]) == ("outcome", "succeeded", "joins on Monday")
    assert outcome["parameters"] == {"email": "grace@example.com", "roles": ["auditor", "support"]}
    assert outcome["after"]["email"] == "grace@example.com"
    assert outcome["after"]["roles"] == ["auditor", "support"]
    assert not {"passwordHash", "password"} & set(outcome["after"])


def test_the_password_is_written_and_told_nowhere(client, admin, caplog):
    """Nor its hash, but in its one place: not in operations, audit, logs, answers or the digest of the request."""
    import hashlib
    import json

    from mongoengine.connection import get_db

    caplog.set_level("INFO")
    headers = admin | {"Idempotency-Key": "k1"}
    answers = [client.post(URL + query, headers=headers, json=BODY) for query in ("", "?dryRun=true", "")]
    answers.append(client.post(URL, headers=admin, json=BODY | {"roles": ["root"]}))
    answers.append(client.post(URL, headers=admin, json=BODY))
    answers.append(client.get("/api/admin/billing/audit", headers=admin))
    answers.append(client.get("/api/admin/billing/audit?format=csv", headers=admin))
    made = AdminUser.objects.first().password_hash
    names = set(get_db().list_collection_names()) - {"admin_users"}
    stored = "".join(str(list(get_db()[name].find())) for name in names)
    told = "".join(each.text for each in answers)
    logged = str([record.msg for record in caplog.records])
    assert "admin_operation" in logged
    for where in (stored, told, logged):
        assert PASSWORD not in where
        assert made not in where
        assert hashlib.sha256(PASSWORD.encode()).hexdigest() not in where
    operation = AdminOperation.objects(idempotency_key="k1").first()
    clear = json.dumps(["users", operation.parameters | {"password": PASSWORD}], sort_keys=True)
    assert operation.body_hash != hashlib.sha256(clear.encode()).hexdigest()


def test_many_at_once_make_one(app, token):
    headers, found = token("admin"), []
    ask = lambda: found.append(app.test_client().post(URL, headers=headers, json=BODY).status_code)
    threads = [threading.Thread(target=ask) for _ in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(found) == [201] + [409] * 5
    assert len(AdminUser.objects) == 1


def test_with_an_issuer_there_are_no_users_here(app, client, admin):
    from dataclasses import replace

    billing = app.extensions["billing"]
    app.extensions["billing"] = replace(billing, settings=replace(billing.settings, jwt_secret_key=""))
    try:
        answer = client.post(URL, headers=admin, json=BODY)
    finally:
        app.extensions["billing"] = billing
    assert (answer.status_code, answer.json["code"]) == (409, "login_not_available")
    assert len(AdminUser.objects) == 0
