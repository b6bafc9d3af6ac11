"""Tokens in cookies, for pages: what the browser is told, and the proof that a request comes from our page."""

import pytest

from billing_service.documents import AdminUser

from .conftest import PASSWORD, bearer

USERS = "/api/admin/billing/users"
NEW = {"email": "new@example.com", "password": "a long enough password", "roles": ["auditor"]}


@pytest.fixture
def signed_in(client, person, sign_in):
    person()
    answer = sign_in(cookies=True)
    assert answer.status_code == 200
    return answer


def cookies_of(answer):
    return {line.split("=", 1)[0]: line for line in answer.headers.getlist("Set-Cookie")}


def csrf(client, kind="access"):
    found = client.get_cookie(f"csrf_{kind}_token")
    return {"X-CSRF-TOKEN": found.value} if found else {}


def test_the_tokens_are_where_no_script_reads_them(signed_in):
    told = cookies_of(signed_in)
    assert set(told) == {"access_token_cookie", "csrf_access_token", "refresh_token_cookie", "csrf_refresh_token"}
    for name, line in told.items():
        assert "SameSite=Strict" in line
        assert ("HttpOnly" in line) == name.endswith("_cookie")
        assert "Domain" not in line
    assert "Path=/api/;" in told["access_token_cookie"] + ";"
    assert "Path=/api/auth/;" in told["refresh_token_cookie"] + ";"
    assert "Max-Age=900" in told["access_token_cookie"]
    assert "Max-Age=43200" in told["refresh_token_cookie"]
    assert set(signed_in.json) == {"tokenType", "expiresAt", "refreshExpiresAt", "user"}
    assert "eyJ" not in signed_in.text


@pytest.mark.parametrize(
    ("base", "address", "headers", "secure"),
    [
        ("http://127.0.0.1:8000", "127.0.0.1", {}, False),
        ("http://localhost:8000", "127.0.0.1", {}, False),
        ("http://[::1]:8000", "::1", {}, False),
        ("https://localhost:8000", "127.0.0.1", {}, True),
        ("http://billing.example.com", "127.0.0.1", {}, True),
        ("http://billing.example.com", "192.0.2.1", {}, True),
        # A proxy on the same machine that names the service by its own address.
        ("http://127.0.0.1:8000", "127.0.0.1", {"X-Forwarded-For": "192.0.2.1"}, True),
        ("http://127.0.0.1:8000", "127.0.0.1", {"Forwarded": "for=192.0.2.1"}, True),
        ("http://localhost:8000", "192.0.2.1", {}, True),
        ("http://localhost.example.com", "127.0.0.1", {}, True),
    ],
)
def test_they_are_secure_unless_all_is_on_one_machine(client, person, base, address, headers, secure):
    person()
    answer = client.post(
        "/api/auth/login",
        json={"email": "grace@example.com", "password": PASSWORD, "cookies": True},
        base_url=base,
        headers=headers,
        environ_overrides={"REMOTE_ADDR": address},
    )
    lines = answer.headers.getlist("Set-Cookie")
    assert len(lines) == 4
    assert {"Secure" in line for line in lines} == {secure}


@pytest.fixture
def local(client, person):
    """A client whose cookies came by plain http of this machine, so that it sends them back."""
    person()
    body = {"email": "grace@example.com", "password": PASSWORD, "cookies": True}
    assert client.post("/api/auth/login", json=body).status_code == 200
    return client


def test_reading_needs_the_cookie_alone(local):
    assert local.get(USERS).status_code == 200


@pytest.mark.parametrize(
    "headers", [{}, {"X-CSRF-TOKEN": ""}, {"X-CSRF-TOKEN": "x"}, {"X-CSRF-TOKEN": "refresh"}, {"X-Requested-With": "x"}]
)
def test_writing_needs_the_proof(local, headers):
    if headers.get("X-CSRF-TOKEN") == "refresh":
        headers = csrf(local, "refresh")
    for method, path in (("POST", USERS), ("PATCH", f"{USERS}/{'5' * 24}"), ("POST", "/api/auth/logout")):
        answer = local.open(path, method=method, json={}, headers=headers)
        assert (answer.status_code, answer.json["code"]) == (403, "csrf_rejected"), path
        assert "X-CSRF-TOKEN" in answer.json["detail"]
    assert len(AdminUser.objects) == 1
    assert local.post(USERS, json=NEW, headers=csrf(local)).status_code == 201


def test_every_unsafe_route_needs_it(app, local):
    for rule in app.url_map.iter_rules():
        if rule.endpoint.split(".")[0] not in ("admin", "organizations"):
            continue
        path = rule.rule
        for argument in rule.arguments:
            path = path.replace(f"<org_id:{argument}>", "5" * 24).replace(f"<{argument}>", "5" * 24)
        for method in rule.methods - {"GET", "HEAD", "OPTIONS"}:
            answer = local.open(path, method=method)
            assert (answer.status_code, answer.json["code"]) == (403, "csrf_rejected"), path


def test_a_bearer_token_needs_no_proof_and_goes_first(local, token):
    """A page of another origin cannot make a browser send that header."""
    assert local.post(USERS, json=NEW, headers=token("admin")).status_code == 201
    assert local.get(USERS, headers=token("auditor")).status_code == 403


def test_a_token_of_the_command_line_is_no_cookie(client, token, environment):
    """One without the claim of the proof is not taken from a cookie where a proof is needed."""
    import time

    import jwt as pyjwt

    claims = {"sub": "x", "exp": int(time.time()) + 60, "jti": "1", "billing_roles": ["admin"]}
    sent = pyjwt.encode(claims, environment["JWT_SECRET_KEY"], "HS256")
    client.set_cookie("access_token_cookie", sent, path="/api/")
    answer = client.post(USERS, json=NEW, headers={"X-CSRF-TOKEN": "x"})
    assert answer.status_code in (401, 403)
    assert len(AdminUser.objects) == 0


def test_refreshing_needs_the_proof_and_sets_new_cookies(local):
    before = local.get_cookie("refresh_token_cookie", path="/api/auth/").value
    assert local.post("/api/auth/refresh").json["code"] == "csrf_rejected"
    assert local.post("/api/auth/refresh", headers=csrf(local)).json["code"] == "csrf_rejected"
    answer = local.post("/api/auth/refresh", headers=csrf(local, "refresh"))
    assert answer.status_code == 200
    assert "eyJ" not in answer.text
    assert local.get_cookie("refresh_token_cookie", path="/api/auth/").value != before
    assert local.get(USERS).status_code == 200
    assert local.post(USERS, json=NEW, headers=csrf(local)).status_code == 201


def test_signing_out_takes_the_cookies_away(local):
    kept = local.get_cookie("access_token_cookie", path="/api/").value
    assert local.post("/api/auth/logout", headers=csrf(local)).status_code == 204
    assert local.get_cookie("access_token_cookie", path="/api/") is None
    assert local.get_cookie("refresh_token_cookie", path="/api/auth/") is None
    assert csrf(local) == {}
    assert local.get(USERS, headers=bearer(kept)).status_code == 401


def test_who_has_only_the_refresh_cookie_left_can_sign_out(local):
    refresh = local.get_cookie("refresh_token_cookie", path="/api/auth/").value
    local.delete_cookie("access_token_cookie", path="/api/")
    assert local.post("/api/auth/logout", headers=csrf(local, "refresh")).status_code == 204
    assert local.post("/api/auth/refresh", headers=bearer(refresh)).status_code == 401


def test_an_issuers_installation_reads_no_cookies(environment, app):
    from mongoengine import disconnect_all

    from billing_service import create_app
    from billing_service.documents import connect
    from billing_service.settings import Settings

    given = {"JWT_SECRET_KEY": "", "JWT_JWKS_URL": "http://127.0.0.1:9/", "JWT_ISSUER": "i", "JWT_AUDIENCE": "a"}
    made = create_app(Settings.from_env(environment | given))
    assert made.config["JWT_TOKEN_LOCATION"] == ["headers"]
    disconnect_all()
    connect(environment["MONGODB_URI"])
