"""POST /api/auth/logout"""

import pytest

from billing_service.documents import Revocation

from .conftest import bearer

URL = "/api/auth/logout"
USERS = "/api/admin/billing/users"


def is_accepted(client, sent):
    return client.get(USERS, headers=bearer(sent)).status_code == 200


@pytest.mark.parametrize("name", ["accessToken", "refreshToken"])
def test_it_works(client, person, sign_in, name):
    """Either token ends both, and those that were made by refreshing."""
    person()
    first = sign_in().json
    second = client.post("/api/auth/refresh", headers=bearer(first["refreshToken"])).json
    answer = client.post(URL, headers=bearer(second[name]))
    assert (answer.status_code, answer.data) == (204, b"")
    assert not is_accepted(client, first["accessToken"])
    assert not is_accepted(client, second["accessToken"])
    assert client.post("/api/auth/refresh", headers=bearer(second["refreshToken"])).status_code == 401


def test_twice_is_once(client, person, sign_in):
    person()
    pair = sign_in().json
    for _ in range(2):
        assert client.post(URL, headers=bearer(pair["accessToken"])).status_code == 204
    assert len(Revocation.objects) == 2


def test_it_needs_a_token(client):
    answer = client.post(URL)
    assert (answer.status_code, answer.json["code"]) == (401, "unauthorized")
    assert client.post(URL, headers=bearer("a.b.c")).status_code == 401


def test_it_needs_the_permission(client, token):
    """It needs none: everybody may end their own token, one of the command line too."""
    headers, other = token("service"), token("admin")
    assert client.post(URL, headers=headers).status_code == 204
    answer = client.put(f"/api/billing/organizations/{'5' * 24}", headers=headers, json={"name": "x", "slug": "x"})
    assert (answer.status_code, answer.json["detail"]) == (401, "The token was revoked: sign in again.")
    assert client.get(USERS, headers=other).status_code == 200


@pytest.mark.parametrize("minutes", [5, 60 * 24 * 365 * 100_000])
def test_a_revocation_is_kept_until_its_token_ends(client, token, runtime, environment, minutes):
    import time

    import jwt as pyjwt

    ends = int(time.time() + minutes * 60)
    claims = {"sub": "x", "exp": ends, "jti": "j1", "type": "access", "billing_roles": ["admin"]}
    sent = pyjwt.encode(claims, environment["JWT_SECRET_KEY"], "HS256")
    assert client.post(URL, headers=bearer(sent)).status_code == 204
    assert not is_accepted(client, sent)
    kept = Revocation.objects(jti="j1").first().expires_at.timestamp()
    assert kept > min(ends + 10, 220_000_000_000)


def test_a_token_without_an_id_cannot_be_ended(client, environment):
    """Only the SaaS's backend could make one; it lives until its end."""
    import time

    import jwt as pyjwt

    claims = {"sub": "x", "exp": int(time.time()) + 60, "type": "access", "billing_roles": ["admin"]}
    sent = pyjwt.encode(claims, environment["JWT_SECRET_KEY"], "HS256")
    assert client.post(URL, headers=bearer(sent)).status_code == 204
    assert is_accepted(client, sent)


@pytest.mark.parametrize(("query", "body"), [("?all=true", {}), ("", {"all": True})])
def test_it_rejects_bad_input(client, person, sign_in, query, body):
    person()
    pair = sign_in().json
    assert client.post(URL + query, headers=bearer(pair["accessToken"]), json=body).status_code == 422
    assert is_accepted(client, pair["accessToken"])


def test_what_a_sign_in_needs_is_read_by_index(app, client, person, sign_in, token):
    """All that signing in, a call, refreshing and signing out ask of MongoDB, as its profiler saw it."""
    from mongoengine.connection import get_db

    person()
    database = get_db()
    database.command("profile", 2)
    try:
        sign_in(password="another password")
        pair = sign_in().json
        is_accepted(client, pair["accessToken"])
        pair = client.post("/api/auth/refresh", headers=bearer(pair["refreshToken"])).json
        client.post(URL, headers=bearer(pair["accessToken"]))
        client.get(USERS, headers=token("admin"))
    finally:
        database.command("profile", 0)
        seen = [each for each in database.system.profile.find() if "planSummary" in each]
        database.system.profile.drop()
    assert {each["ns"].split(".")[1] for each in seen} >= {"admin_users", "revocations", "login_throttles"}
    assert [(each["ns"], each["command"]) for each in seen if "COLLSCAN" in each["planSummary"]] == []


def test_a_call_costs_one_read_more_for_its_token(app, client, person, sign_in, token, runtime):
    """Of a user who signed in as of anybody else."""
    from mongoengine.connection import get_db

    person()
    at = runtime.clock()
    many = [Revocation(jti=f"j{n}", reason="used", at=at, expires_at=at) for n in range(2_000)]
    Revocation.objects.insert(many, load_bulk=False)
    database, counts = get_db(), []
    for headers in (bearer(sign_in().json["accessToken"]), token("admin")):
        database.command("profile", 2)
        assert client.get("/api/admin/billing/audit", headers=headers).status_code == 200
        database.command("profile", 0)
        seen = [each for each in database.system.profile.find() if each["op"] in ("query", "command", "getmore")]
        counts.append(sum("find" in each["command"] or "aggregate" in each["command"] for each in seen))
        assert sum(each.get("docsExamined", 0) for each in seen) <= 1
        database.system.profile.drop()
    assert counts == [3, 3]


def test_with_an_issuer_there_is_nothing_to_end(client, configured, token):
    headers = token("admin")
    configured(jwt_secret_key="")
    answer = client.post(URL, headers=headers)
    assert (answer.status_code, answer.json["code"]) == (409, "login_not_available")
