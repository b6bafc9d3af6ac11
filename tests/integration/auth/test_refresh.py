"""POST /api/auth/refresh"""

import threading

import jwt as pyjwt
import pytest

from billing_service.documents import AdminUser, Revocation

from .conftest import bearer

URL = "/api/auth/refresh"
USERS = "/api/admin/billing/users"
AUDIT = "/api/admin/billing/audit"


def claims_of(sent):
    return pyjwt.decode(sent, options={"verify_signature": False})


def refresh(client, pair):
    return client.post(URL, headers=bearer(pair["refreshToken"]))


def test_it_works(client, person, sign_in):
    person()
    first = sign_in().json
    answer = refresh(client, first)
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert set(answer.json) == set(first)
    assert answer.json["refreshToken"] != first["refreshToken"]
    assert client.get(USERS, headers=bearer(answer.json["accessToken"])).status_code == 200
    assert refresh(client, answer.json).status_code == 200


def test_it_needs_a_token(client):
    answer = client.post(URL)
    assert (answer.status_code, answer.json["code"]) == (401, "unauthorized")


def test_it_needs_the_permission(client, person, sign_in, token):
    """It needs none, but a refresh token of a sign-in: no access token, and none of the command line."""
    person()
    assert client.post(URL, headers=bearer(sign_in().json["accessToken"])).status_code == 401
    assert client.post(URL, headers=token("admin")).status_code == 401
    assert len(Revocation.objects) == 0


def test_a_refresh_token_opens_nothing_else(client, person, sign_in):
    person()
    pair = sign_in().json
    assert client.get(AUDIT, headers=bearer(pair["refreshToken"])).status_code == 401
    assert client.post(USERS, headers=bearer(pair["refreshToken"]), json={}).status_code == 401


@pytest.mark.parametrize(
    ("query", "body", "errors"), [("?force=1", {}, {"force"}), ("", {"refreshToken": "x"}, {"refreshToken"})]
)
def test_it_rejects_bad_input(client, person, sign_in, query, body, errors):
    person()
    pair = sign_in().json
    answer = client.post(URL + query, headers=bearer(pair["refreshToken"]), json=body)
    assert (answer.status_code, set(answer.json["errors"])) == (422, errors)
    assert refresh(client, pair).status_code == 200


def test_twice_is_once(client, person, sign_in):
    """The second use ends the session, the first one's new tokens too: one of the two users is a thief."""
    person()
    first = sign_in().json
    second = refresh(client, first).json
    again = refresh(client, first)
    assert (again.status_code, again.json["code"]) == (401, "refresh_reused")
    assert client.get(USERS, headers=bearer(second["accessToken"])).status_code == 401
    assert client.get(USERS, headers=bearer(first["accessToken"])).status_code == 401
    assert refresh(client, second).status_code == 401
    assert {each.reason for each in Revocation.objects} == {"used", "reused"}


def test_a_reused_token_leaves_other_sessions_alone(client, person, sign_in):
    person()
    stolen, other = sign_in().json, sign_in().json
    refresh(client, stolen)
    refresh(client, stolen)
    assert refresh(client, other).status_code == 200


def test_many_at_once_get_one_pair(app, person, sign_in):
    person()
    pair, answers = sign_in().json, []
    ask = lambda: answers.append(app.test_client().post(URL, headers=bearer(pair["refreshToken"])))
    threads = [threading.Thread(target=ask) for _ in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(each.status_code for each in answers) == [200] + [401] * 5


def test_refreshing_does_not_prolong_the_session(client, person, sign_in):
    person()
    first = sign_in().json
    second = refresh(client, first).json
    assert claims_of(second["refreshToken"])["exp"] == pytest.approx(claims_of(first["refreshToken"])["exp"], abs=1)
    assert claims_of(second["refreshToken"])["jti"] != claims_of(first["refreshToken"])["jti"]


def test_an_access_token_ends_with_its_session(app, person, runtime):
    """The last one is shorter, so that a session that was ended leaves nothing behind."""
    from datetime import timedelta

    from billing_service import tokens

    now = runtime.clock()
    claims = {"billing_session": "s1", "exp": int((now + timedelta(minutes=5)).timestamp())}
    pair = tokens.continue_session(runtime.settings, person(), claims, now)
    assert claims_of(pair.access)["exp"] == pytest.approx(claims["exp"], abs=1)


def test_what_was_used_is_remembered_until_it_could_not_be_used_any_more(client, person, sign_in):
    person()
    first = sign_in().json
    refresh(client, first)
    used = claims_of(first["refreshToken"])
    row = Revocation.objects(jti=used["jti"]).first()
    assert row.expires_at.timestamp() > used["exp"] + 10  # the leeway of the clocks


@pytest.mark.parametrize(
    "change",
    [{"set__disabled": True}, {"inc__version": 1}, {"set__version": 7}, {"set__disabled": True, "inc__version": 1}],
)
def test_a_user_who_was_changed_or_disabled_gets_no_more(client, person, sign_in, change):
    user = person()
    pair = sign_in().json
    AdminUser.objects(id=user.pk).update_one(**change)
    assert refresh(client, pair).status_code == 401
    assert client.get(USERS, headers=bearer(pair["accessToken"])).status_code == 401


def test_a_user_who_was_removed_gets_no_more(client, person, sign_in):
    user = person()
    pair = sign_in().json
    user.delete()
    assert refresh(client, pair).status_code == 401
    assert client.get(USERS, headers=bearer(pair["accessToken"])).status_code == 401


@pytest.mark.parametrize(
    "changes",
    [
        {"billing_user": {"$gt": ""}},
        {"billing_user": "x"},
        {"billing_user": None},
        {"billing_user_version": None},
        {"billing_user_version": "1"},
        {"billing_user_version": True},
        {"billing_user_version": {"$gt": 0}},
        {"billing_session": None},
        {"billing_session": {"$gt": ""}},
        {"jti": None},
    ],
)
def test_claims_of_other_kinds_are_refused(client, person, sign_in, environment, changes):
    """Whoever has the key could sign anything: it must not fail, and operators of the database are no values."""
    person()
    pair = sign_in().json
    forged = pyjwt.encode(claims_of(pair["refreshToken"]) | changes, environment["JWT_SECRET_KEY"], "HS256")
    assert client.post(URL, headers=bearer(forged)).status_code == 401


def test_tokens_are_written_and_logged_nowhere(client, person, sign_in, caplog):
    """What is stored are the ids of tokens, which open nothing."""
    from mongoengine.connection import get_db

    caplog.set_level("INFO")
    person()
    first = sign_in().json
    second = refresh(client, first).json
    client.get(USERS, headers=bearer(second["accessToken"]))
    client.get(f"{USERS}?cursor={second['accessToken'][:190]}", headers=bearer(second["accessToken"]))
    client.get(f"/api/{second['accessToken']}")
    refresh(client, first)
    client.post("/api/auth/logout", headers=bearer(second["accessToken"]))
    stored = "".join(str(list(get_db()[name].find())) for name in get_db().list_collection_names())
    logged = str([record.msg for record in caplog.records])
    assert "refresh_token_reused" in logged
    for pair in (first, second):
        for name in ("accessToken", "refreshToken"):
            signature = pair[name].rpartition(".")[2]
            assert signature not in stored
            assert signature not in logged


def test_the_store_away_is_503_and_nothing_else(client, person, sign_in, servers):
    """Neither 401, which would sign people out, nor a token whose revocation nobody could look up."""
    person()
    pair = sign_in().json
    servers.mongod.kill()
    try:
        answers = [
            refresh(client, pair),
            client.get(USERS, headers=bearer(pair["accessToken"])),
            client.post("/api/auth/logout", headers=bearer(pair["accessToken"])),
        ]
    finally:
        servers.mongod.start()
    assert [(each.status_code, each.json["code"]) for each in answers] == [(503, "store_unavailable")] * 3
    assert refresh(client, pair).status_code == 200


def test_with_an_issuer_there_is_nothing_to_refresh(client, configured):
    configured(jwt_secret_key="")
    answer = client.post(URL)
    assert (answer.status_code, answer.json["code"]) == (409, "login_not_available")
