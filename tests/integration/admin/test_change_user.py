"""PATCH /api/admin/billing/users/{userId}"""

import threading

import pytest
from bson import ObjectId

from billing_service.documents import AdminAction, AdminUser

URL = "/api/admin/billing/users/"
PASSWORD = "correct horse battery"
NEW = "another good password"


@pytest.fixture
def made(runtime):
    """Makes an admin user with PASSWORD; returns its id."""
    from billing_service import identity

    def make(email="grace@example.com", *roles, disabled=False):
        named = list(roles or ["admin"])
        done = identity.create(email, named, PASSWORD, now=runtime.clock(), also=lambda outcome: None)
        user_id = done.answer["updated"]["id"]
        AdminUser.objects(id=user_id).update_one(set__disabled=disabled)
        return user_id

    return make


def stored(user_id):
    return AdminUser.objects(id=user_id).first()


def sign_in(client, email="grace@example.com", password=PASSWORD):
    answer = client.post("/api/auth/login", json={"email": email, "password": password})
    return {"Authorization": f"Bearer {answer.json['accessToken']}"} if answer.status_code == 200 else None


def test_it_works(client, admin, made):
    user_id = made("grace@example.com", "support")
    answer = client.patch(f"{URL}{user_id}", headers=admin, json={"roles": ["auditor", "support", "auditor"]})
    assert answer.status_code == 200
    assert answer.json["changed"] == ["roles"]
    assert answer.json["previous"]["roles"] == ["support"]
    assert answer.json["updated"]["roles"] == stored(user_id).roles == ["auditor", "support"]
    assert stored(user_id).changed_at > stored(user_id).created_at


def test_it_needs_a_token(client, made, frozen):
    user_id = made()
    with frozen:
        assert client.patch(f"{URL}{user_id}", json={"disabled": True}).status_code == 401


@pytest.mark.parametrize("role", ["billing-ops", "support", "auditor", "service"])
def test_it_needs_the_permission(client, token, made, frozen, role):
    user_id = made()
    with frozen:
        answer = client.patch(f"{URL}{user_id}", headers=token(role), json={"roles": ["admin"]})
    assert (answer.status_code, answer.json["code"]) == (403, "forbidden")


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("{id}", {}, "_schema"),
        ("{id}", {"note": "nothing else"}, "_schema"),
        ("{id}", {"roles": []}, "roles"),
        ("{id}", {"roles": ["root"]}, "roles"),
        ("{id}", {"roles": None}, "roles"),
        ("{id}", {"disabled": "perhaps"}, "disabled"),
        ("{id}", {"disabled": None}, "disabled"),
        ("{id}", {"password": "short"}, "password"),
        ("{id}", {"password": None}, "password"),
        ("{id}", {"password": {"$gt": ""}}, "password"),
        ("{id}", {"password": "grace@example.com"}, "password"),
        ("{id}", {"email": "other@example.com"}, "email"),
        ("{id}", {"version": 1}, "version"),
        ("{id}?dryRum=true", {"disabled": True}, "dryRum"),
        ("nonsense", {"disabled": True}, "userId"),
        ("%24ne", {"disabled": True}, "userId"),
    ],
)
def test_it_rejects_bad_input(client, admin, made, frozen, path, body, field):
    user_id = made()
    with frozen:
        answer = client.patch(URL + path.format(id=user_id), headers=admin, json=body)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request")
    assert list(answer.json["errors"]) == [field]


def test_an_unknown_user_is_404(client, admin):
    for query in ("", "?dryRun=true"):
        answer = client.patch(f"{URL}{ObjectId()}{query}", headers=admin, json={"disabled": True})
        assert (answer.status_code, answer.json["code"]) == (404, "user_not_found")


def test_twice_is_once(client, admin, made):
    user_id = made("grace@example.com", "support")
    client.patch(f"{URL}{user_id}", headers=admin, json={"disabled": True})
    before = stored(user_id)
    again = client.patch(f"{URL}{user_id}", headers=admin, json={"disabled": True})
    assert (again.status_code, again.json["changed"]) == (200, [])
    assert stored(user_id).to_mongo() == before.to_mongo()


def test_the_same_key_gives_the_same_answer(client, admin, made):
    user_id = made("grace@example.com", "support")
    headers = admin | {"Idempotency-Key": "k1"}
    first = client.patch(f"{URL}{user_id}", headers=headers, json={"password": NEW})
    again = client.patch(f"{URL}{user_id}", headers=headers, json={"password": NEW})
    assert again.json == first.json
    assert stored(user_id).version == 2
    other = client.patch(f"{URL}{user_id}", headers=headers, json={"password": NEW + "!"})
    assert (other.status_code, other.json["code"]) == (422, "idempotency_mismatch")


def test_a_dry_run_writes_nothing(client, admin, made, frozen):
    user_id = made("grace@example.com", "support")
    with frozen:
        body = {"disabled": True, "roles": ["auditor"], "password": NEW}
        answer = client.patch(f"{URL}{user_id}?dryRun=true", headers=admin, json=body)
    assert (answer.status_code, answer.json["dryRun"]) == (200, True)
    assert answer.json["changed"] == ["disabled", "roles", "password"]
    assert len(AdminAction.objects) == 0


@pytest.mark.parametrize("change", [{"disabled": True}, {"roles": ["admin", "support"]}, {"password": NEW}])
def test_it_ends_access_and_refresh_tokens_at_once(client, admin, made, change):
    user_id = made()
    made("other@example.com")
    pair = client.post("/api/auth/login", json={"email": "grace@example.com", "password": PASSWORD}).json
    access = {"Authorization": f"Bearer {pair['accessToken']}"}
    refresh = {"Authorization": f"Bearer {pair['refreshToken']}"}
    assert client.get(URL[:-1], headers=access).status_code == 200
    assert client.patch(f"{URL}{user_id}", headers=admin, json=change).status_code == 200
    refused = client.get(URL[:-1], headers=access)
    assert (refused.status_code, refused.json["code"]) == (401, "unauthorized")
    assert client.post("/api/auth/refresh", headers=refresh).status_code == 401
    # Nor do they come to life again.
    client.patch(f"{URL}{user_id}", headers=admin, json={"disabled": False, "roles": ["admin"]})
    assert client.get(URL[:-1], headers=access).status_code == 401


def test_it_ends_no_other_tokens(client, admin, made, token):
    """Not those of other users, and not one of the command line that bears the same name."""
    user_id = made()
    made("other@example.com")
    theirs, named = sign_in(client, "other@example.com"), token("admin", actor="grace@example.com")
    client.patch(f"{URL}{user_id}", headers=admin, json={"disabled": True})
    assert client.get(URL[:-1], headers=theirs).status_code == 200
    assert client.get(URL[:-1], headers=named).status_code == 200


def test_a_disabled_user_signs_in_again_only_when_enabled(client, admin, made):
    user_id = made("grace@example.com", "support")
    client.patch(f"{URL}{user_id}", headers=admin, json={"disabled": True})
    assert sign_in(client) is None
    client.patch(f"{URL}{user_id}", headers=admin, json={"disabled": False})
    assert sign_in(client) is not None


def test_a_new_password_takes_the_old_ones_place(client, admin, made):
    user_id = made("grace@example.com", "support")
    answer = client.patch(f"{URL}{user_id}", headers=admin, json={"password": NEW})
    assert answer.json["changed"] == ["password"]
    assert sign_in(client) is None
    assert sign_in(client, password=NEW) is not None


def test_a_change_lets_whoever_was_held_up_try_again(client, admin, made):
    user_id = made("grace@example.com", "support")
    for _ in range(6):
        answer = client.post("/api/auth/login", json={"email": "grace@example.com", "password": "a wrong password"})
    assert answer.status_code == 429
    client.patch(f"{URL}{user_id}", headers=admin, json={"password": NEW})
    assert sign_in(client, password=NEW) is not None


LAST = [{"disabled": True}, {"roles": ["support"]}, {"roles": ["support"], "disabled": True}]


@pytest.mark.parametrize("query", ["", "?dryRun=true"])
@pytest.mark.parametrize("body", LAST)
def test_the_last_admin_cannot_take_away_their_own_rights(client, made, frozen, body, query):
    user_id = made()
    made("off@example.com", disabled=True)
    made("ops@example.com", "billing-ops")
    headers = sign_in(client)
    with frozen:
        answer = client.patch(f"{URL}{user_id}{query}", headers=headers, json=body)
    assert (answer.status_code, answer.json["code"]) == (409, "last_admin")
    assert client.get(URL[:-1], headers=headers).status_code == 200


@pytest.mark.parametrize("body", LAST)
def test_an_admin_who_is_not_the_last_can(client, made, body):
    user_id = made()
    made("other@example.com")
    assert client.patch(f"{URL}{user_id}", headers=sign_in(client), json=body).status_code == 200


def test_two_admins_who_disable_each_other_leave_one(app, made, token):
    for _ in range(5):
        AdminUser.objects.delete()
        ids, found = [made("a@example.com"), made("b@example.com")], []
        headers = [token("admin", actor="b"), token("admin", actor="a")]
        start = threading.Barrier(2)

        def disable(number, start=start, ids=ids, headers=headers, found=found):
            start.wait()
            answer = app.test_client().patch(f"{URL}{ids[number]}", headers=headers[number], json={"disabled": True})
            found.append(answer.status_code)

        threads = [threading.Thread(target=disable, args=[number]) for number in range(2)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert sorted(found) == [200, 409]
        assert AdminUser.objects(disabled=False).count() == 1


def test_it_is_recorded_before_and_after(client, admin, made):
    user_id = made("grace@example.com", "support")
    body = {"roles": ["auditor"], "password": NEW, "note": "moves to finance"}
    client.patch(f"{URL}{user_id}", headers=admin, json=body)
    outcome, intent = client.get("/api/admin/billing/audit?action=change_user", headers=admin).json["items"]
    assert (intent["outcome"], intent["target"], intent["note"]) == ("pending", str(user_id), "moves to finance")
    assert outcome["parameters"] == {"roles": ["auditor"], "password": "set"}
    assert (outcome["before"]["roles"], outcome["after"]["roles"]) == (["support"], ["auditor"])
    assert NEW not in str([each.to_mongo() for each in AdminAction.objects])


def test_a_refusal_is_recorded(client, admin, made):
    user_id = made()
    client.patch(f"{URL}{user_id}", headers=admin, json={"disabled": True})
    assert AdminAction.objects(phase="outcome").first().error.startswith("last_admin")
