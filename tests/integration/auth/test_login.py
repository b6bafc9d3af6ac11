"""POST /api/auth/login"""

import statistics
import time

import jwt as pyjwt
import pytest
from argon2 import PasswordHasher

from billing_service.documents import AdminAction, AdminUser, LoginThrottle, Revocation

from .conftest import PASSWORD, bearer

URL = "/api/auth/login"
USERS = "/api/admin/billing/users"


def test_it_works(client, person, sign_in):
    user = person()
    answer = sign_in()
    assert answer.status_code == 200
    assert set(answer.json) == {"tokenType", "accessToken", "refreshToken", "expiresAt", "refreshExpiresAt", "user"}
    assert answer.json["user"] == {"id": str(user.pk), "email": "grace@example.com", "roles": ["admin"]}
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in answer.headers
    assert client.get(USERS, headers=bearer(answer.json["accessToken"])).status_code == 200


def test_an_access_token_lasts_15_minutes_and_a_session_12_hours(person, sign_in):
    person()
    pair = sign_in().json
    lasts = {}
    for name in ("accessToken", "refreshToken"):
        claims = pyjwt.decode(pair[name], options={"verify_signature": False})
        lasts[claims["type"]] = claims["exp"] - claims["iat"]
    assert lasts["access"] == pytest.approx(15 * 60, abs=2)
    assert lasts["refresh"] == pytest.approx(12 * 3600, abs=2)


def test_it_needs_a_token(sign_in):
    """It needs none: here one gets it. A password is needed instead."""
    answer = sign_in("nobody@example.com")
    assert (answer.status_code, answer.json["code"]) == (401, "login_refused")
    assert answer.content_type == "application/problem+json"


@pytest.mark.parametrize("role", ["admin", "billing-ops", "support", "auditor", "service"])
def test_it_needs_the_permission(client, person, sign_in, role):
    """It needs none; what is made has the rights of the user's roles, and no others."""
    person("grace@example.com", role)
    headers = bearer(sign_in().json["accessToken"])
    assert client.get(USERS, headers=headers).status_code == (200 if role == "admin" else 403)
    wanted = 403 if role == "service" else 200
    assert client.get("/api/admin/billing/audit", headers=headers).status_code == wanted


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "email"),
        ({"email": "grace@example.com"}, "password"),
        ({"email": {"$gt": ""}, "password": PASSWORD}, "email"),
        ({"email": "grace@example.com", "password": {"$ne": "x"}}, "password"),
        ({"email": "grace@example.com", "password": ["x"]}, "password"),
        ({"email": "grace@example.com", "password": ""}, "password"),
        ({"email": "grace@example.com", "password": "x" * 257}, "password"),
        ({"email": "grace@example.com", "password": "a\x00b"}, "password"),
        ({"email": "grace@example.com", "password": "\ud800"}, "password"),
        ({"email": "x" * 201, "password": PASSWORD}, "email"),
        ({"email": "grace@example.com", "password": PASSWORD, "roles": ["admin"]}, "roles"),
        ({"email": "grace@example.com", "password": PASSWORD, "cookies": "perhaps"}, "cookies"),
    ],
)
def test_it_rejects_bad_input(client, person, body, field):
    person()
    answer = client.post(URL, json=body)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request")
    assert field in answer.json["errors"]
    assert PASSWORD not in answer.text
    assert len(LoginThrottle.objects) == 0


def test_it_rejects_a_body_that_another_page_could_send(client, person):
    """A form of another origin cannot sign anybody in: only JSON is read, which no form sends."""
    person()
    form = client.post(URL, data={"email": "grace@example.com", "password": PASSWORD})
    assert form.status_code == 415
    plain = client.post(URL, data=b'{"email": "grace@example.com"}', content_type="text/plain")
    assert plain.status_code == 415
    assert client.post(f"{URL}?email=grace@example.com").status_code == 422


def test_twice_is_once(client, person, sign_in):
    """Two sign-ins are two sessions: each stands by itself."""
    person()
    first, second = sign_in().json, sign_in().json
    client.post("/api/auth/logout", headers=bearer(first["accessToken"]))
    assert client.get(USERS, headers=bearer(first["accessToken"])).status_code == 401
    assert client.get(USERS, headers=bearer(second["accessToken"])).status_code == 200


def test_the_e_mail_is_read_in_any_case(person, sign_in):
    person()
    assert sign_in("Grace@Example.COM").json["user"]["email"] == "grace@example.com"


def test_letters_are_the_same_however_they_were_typed(runtime, sign_in):
    from billing_service import identity

    identity.create(
        "grace@example.com", ["admin"], "caf\u00e9 au lait, s'il", now=runtime.clock(), also=lambda outcome: None
    )
    assert sign_in(password="cafe\u0301 au lait, s'il").status_code == 200


def refusals(sign_in):
    return [sign_in("unknown@example.com"), sign_in(password="another password"), sign_in("off@example.com")]


def test_unknown_wrong_and_disabled_are_worded_alike(person, sign_in):
    person()
    person("off@example.com", disabled=True)
    answers = refusals(sign_in)
    assert [each.status_code for each in answers] == [401] * 3
    assert len({each.json["detail"] for each in answers}) == 1
    assert len({frozenset(each.json) for each in answers}) == 1
    assert {each.headers["WWW-Authenticate"] for each in answers} == {"Bearer"}


def test_unknown_wrong_and_disabled_take_equally_long(person, sign_in):
    person()
    person("off@example.com", disabled=True)
    took = {"unknown": [], "password": [], "disabled": []}
    asked = {
        "unknown": {"email": "unknown@example.com"},
        "password": {"password": "another password"},
        "disabled": {"email": "off@example.com"},
    }
    for _ in range(9):
        for kind, how in asked.items():
            LoginThrottle.objects.delete()
            began = time.perf_counter()
            assert sign_in(**how).status_code == 401
            took[kind].append(time.perf_counter() - began)
    middle = {kind: statistics.median(each) for kind, each in took.items()}
    assert max(middle.values()) < 2 * min(middle.values()), middle


def test_a_hash_of_other_parameters_is_made_anew(person, sign_in):
    old = PasswordHasher(time_cost=1, memory_cost=8 * 1024, parallelism=1).hash(PASSWORD)
    user = person(password_hash=old)
    pair = sign_in().json
    renewed = AdminUser.objects(id=user.pk).first()
    assert renewed.password_hash != old
    assert "m=19456,t=2,p=1" in renewed.password_hash
    assert renewed.version == user.version
    assert sign_in().status_code == 200
    assert AdminUser.objects(id=user.pk).first().password_hash == renewed.password_hash
    assert pair["accessToken"]


def test_a_wrong_password_renews_no_hash(person, sign_in):
    old = PasswordHasher(time_cost=1, memory_cost=8 * 1024, parallelism=1).hash(PASSWORD)
    user = person(password_hash=old)
    sign_in(password="another password")
    assert AdminUser.objects(id=user.pk).first().password_hash == old


def test_a_hash_that_cannot_be_read_lets_nobody_in(person, sign_in):
    person(password_hash="$argon2id$nonsense")
    assert sign_in().status_code == 401


def test_the_password_is_written_and_told_nowhere(app, client, person, sign_in, caplog):
    """Only its hash is: not in the stores, not in logs, not in answers, whether it is right or wrong."""
    from mongoengine.connection import get_db

    caplog.set_level("INFO")
    person()
    wrong = "wrong canary passphrase"
    answers = [
        sign_in(),
        sign_in(password=wrong),
        sign_in(email=wrong, password=wrong),
        sign_in(password=PASSWORD * 20),
    ]
    answers.append(client.post(URL, data=b'{"password": "' + wrong.encode(), content_type="application/json"))
    stored = "".join(str(list(get_db()[name].find())) for name in get_db().list_collection_names())
    told = "".join(each.text + str(each.headers) for each in answers)
    logged = str([record.msg for record in caplog.records])
    assert "login_failed" in logged
    for secret in (PASSWORD, wrong):
        assert secret not in stored
        assert secret not in told
        assert secret not in logged
    assert len(AdminAction.objects) == 0


def test_the_store_away_is_503(person, sign_in, servers):
    person()
    servers.mongod.kill()
    try:
        answer = sign_in()
    finally:
        servers.mongod.start()
    assert (answer.status_code, answer.json["code"]) == (503, "store_unavailable")


def test_with_an_issuer_nobody_signs_in_here(sign_in, configured):
    configured(jwt_secret_key="")
    answer = sign_in()
    assert (answer.status_code, answer.json["code"]) == (409, "login_not_available")
    assert len(Revocation.objects) == len(LoginThrottle.objects) == 0
