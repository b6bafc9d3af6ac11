"""Identity and rights, with the real guard, on the real parameterised paths."""

import base64
import json
import time
from pathlib import Path

import jwt as pyjwt
import pytest
from bson import ObjectId

from billing_service import create_app
from billing_service.access import PERMISSIONS, ROLES
from billing_service.blueprints.guard import permission_of
from billing_service.settings import Settings

# What works without a token, and why it may.
OPEN = {
    "health.healthz",
    "health.readyz",
    "health.metrics",
    "api-docs.openapi_json",
    "documentation.page",
    "documentation.start",
    "documentation.asset",
    "documentation.error_codes",
    "console.page",
    "console.asset",
    "stripe_webhooks.receive_webhook",
    # They check what they are sent: a password, a refresh token, the token that is to end.
    "auth.login",
    "auth.refresh",
    "auth.logout",
    # It tells of the token that it is sent, and every one may know that.
    "auth.show_me",
}
VALUES = {
    "orgId": str(ObjectId("5" * 24)),
    "name": "x",
    "eventId": "evt_1",
    "jobId": "replay-evt_1-1",
    "userId": str(ObjectId("5" * 24)),
    "batchId": str(ObjectId("6" * 24)),
    "findingId": str(ObjectId("5" * 24)),
    "reconciliationId": str(ObjectId("5" * 24)),
}


def guarded(app):
    """(method, path, permission) of each route that needs a token."""
    for rule in app.url_map.iter_rules():
        if rule.endpoint in OPEN:
            continue
        path = rule.rule
        for argument in rule.arguments:
            path = path.replace(f"<org_id:{argument}>", VALUES[argument]).replace(f"<{argument}>", VALUES[argument])
        for method in sorted(rule.methods - {"HEAD", "OPTIONS"}):
            yield method, path, permission_of(rule.endpoint)


def test_every_other_route_names_one_permission(app):
    routes = list(guarded(app))
    assert len(routes) >= 6
    assert [route for route in routes if route[2] not in PERMISSIONS] == []


def test_the_open_routes_exist(app):
    assert {rule.endpoint for rule in app.url_map.iter_rules()} >= OPEN


def test_every_endpoint_has_a_test_file(app):
    tested = {path.name for path in Path(__file__).parents[1].rglob("test_*.py")}
    names = [rule.endpoint.split(".") for rule in app.url_map.iter_rules()]
    wanted = {
        f"test_{endpoint.removeprefix('show_').removeprefix('list_').removeprefix('put_')}.py"
        for blueprint, *rest in names
        for endpoint in rest
        if blueprint in ("admin", "organizations", "usage", "auth")
    }
    assert len(wanted) >= 6
    assert wanted <= tested, wanted - tested


def test_no_token_is_401_everywhere(app, client):
    for method, path, _ in guarded(app):
        answer = client.open(path, method=method)
        assert (answer.status_code, answer.json["code"]) == (401, "unauthorized"), path
        assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_a_token_without_the_permission_is_403_everywhere(app, client, token):
    for method, path, permission in guarded(app):
        lacking = [role for role, granted in ROLES.items() if permission not in granted]
        assert lacking, permission
        for role in lacking:
            answer = client.open(path, method=method, headers=token(role))
            assert (answer.status_code, answer.json["code"]) == (403, "forbidden"), (role, path)
            assert permission in answer.json["detail"]


def test_a_token_with_the_permission_passes_the_guard_everywhere(app, client, token):
    for method, path, permission in guarded(app):
        for role in (role for role, granted in ROLES.items() if permission in granted):
            answer = client.open(path, method=method, headers=token(role))
            assert answer.status_code not in (401, 403), (role, path)


def test_rights_are_checked_before_the_body_is_read(client, token):
    answer = client.post(
        f"/api/admin/billing/sync/{ObjectId()}", headers=token("auditor"), data=b"{", content_type="application/json"
    )
    assert answer.status_code == 403


def claims(**changes):
    now = int(time.time())
    return {
        "sub": "ada",
        "iat": now,
        "nbf": now,
        # Made when tests are collected; the last of them run much later.
        "exp": now + 86_400,
        "jti": "1",
        "type": "access",
        "billing_roles": ["admin"],
    } | changes


AUDIT = "/api/admin/billing/audit"
KEY = "the key of the tests, sixty-four bytes or more, which is enough for any HMAC"


@pytest.mark.parametrize(
    ("payload", "key", "algorithm", "status"),
    [
        (claims(), KEY, "HS256", 200),
        (claims(exp=1), KEY, "HS256", 401),
        (claims(nbf=4_000_000_000), KEY, "HS256", 401),
        (claims(type="refresh"), KEY, "HS256", 401),
        (claims(), "another key of thirty-two bytes, or more", "HS256", 401),
        (claims(), None, "none", 401),
        (claims(), KEY, "HS512", 401),
        ({name: value for name, value in claims().items() if name != "billing_roles"}, KEY, "HS256", 403),
        (claims(billing_roles="admin"), KEY, "HS256", 403),
        (claims(billing_roles=["root", 7, None, {"$gt": ""}]), KEY, "HS256", 403),
        (claims(billing_roles=["auditor"]), KEY, "HS256", 200),
        (claims(sub={"$gt": ""}), KEY, "HS256", 401),
    ],
)
def test_only_a_whole_token_with_roles_counts(client, payload, key, algorithm, status):
    sent = pyjwt.api_jws.encode(
        __import__("json").dumps(payload).encode(), key or "", algorithm=algorithm, headers={"typ": "JWT"}
    )
    answer = client.get(AUDIT, headers={"Authorization": f"Bearer {sent}"})
    assert answer.status_code == status
    assert sent not in answer.text


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Bearer a.b.c", "Basic YTpi", "Bearer \xff", "Bearer a b"])
def test_a_broken_header_is_401(client, header):
    assert client.get(AUDIT, headers={"Authorization": header}).status_code == 401


@pytest.fixture(scope="module")
def keys():
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    def pair(private):
        pem = private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return private, pem.decode()

    return {
        "RS256": pair(rsa.generate_private_key(65537, 2048)),
        "ES256": pair(ec.generate_private_key(ec.SECP256R1())),
    }


ISSUED = {"iss": "https://id.example.com", "aud": "billing"}


@pytest.fixture
def issuer_client(environment, app, keys):
    """Makes a client of an application that trusts an issuer's public key."""
    from mongoengine import disconnect_all

    def make(algorithm):
        given = environment | {
            "JWT_SECRET_KEY": "",
            "JWT_PUBLIC_KEY": keys[algorithm][1],
            "JWT_ISSUER": ISSUED["iss"],
            "JWT_AUDIENCE": ISSUED["aud"],
        }
        return create_app(Settings.from_env(given)).test_client()

    yield make
    disconnect_all()
    from billing_service.documents import connect

    connect(environment["MONGODB_URI"])


def asked(client, token):
    return client.get(AUDIT, headers={"Authorization": f"Bearer {token}"}).status_code


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_an_issuers_key_is_enough_with_issuer_and_audience(issuer_client, keys, algorithm):
    client, private = issuer_client(algorithm), keys[algorithm][0]
    assert asked(client, pyjwt.encode(claims(**ISSUED), private, algorithm)) == 200
    assert asked(client, pyjwt.encode(claims(), private, algorithm)) == 401
    assert asked(client, pyjwt.encode(claims(**ISSUED | {"iss": "other"}), private, algorithm)) == 401
    assert asked(client, pyjwt.encode(claims(**ISSUED | {"aud": "other"}), private, algorithm)) == 401
    no_claim = {name: value for name, value in claims(**ISSUED).items() if name != "billing_roles"}
    assert asked(client, pyjwt.encode(no_claim, private, algorithm)) == 403


@pytest.mark.parametrize(("algorithm", "other"), [("RS256", "ES256"), ("ES256", "RS256")])
def test_a_token_of_the_other_algorithm_is_refused(issuer_client, keys, algorithm, other):
    client = issuer_client(algorithm)
    assert asked(client, pyjwt.encode(claims(**ISSUED), keys[other][0], other)) == 401


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_a_public_key_used_as_a_shared_secret_is_refused(issuer_client, keys, algorithm):
    import base64
    import hashlib
    import hmac
    import json

    client, pem = issuer_client(algorithm), keys[algorithm][1]
    part = lambda value: base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")
    signed = part({"alg": "HS256", "typ": "JWT"}) + b"." + part(claims(**ISSUED))
    mac = base64.urlsafe_b64encode(hmac.new(pem.encode(), signed, hashlib.sha256).digest()).rstrip(b"=")
    assert asked(client, (signed + b"." + mac).decode()) == 401


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"sub": "a" * 200}, 200),
        ({"sub": "Zo\u00eb, \u6771\u4eac"}, 200),
        ({"sub": "a" * 201}, 401),
        ({"sub": ""}, 401),
        ({"sub": "   "}, 401),
        ({"sub": "a\x00b"}, 401),
        ({"sub": "a\nb"}, 401),
        ({"sub": "a\u202eb"}, 401),
        ({"sub": "\ud800"}, 401),
        ({"sub": 7}, 401),
        ({"sub": ["ada"]}, 401),
        ({"sub": ...}, 401),
        ({"exp": ...}, 401),
        ({"exp": None}, 401),
        ({"exp": "x"}, 401),
        ({"exp": [1]}, 401),
        ({"exp": float("inf")}, 401),
        ({"exp": float("nan")}, 401),
        ({"nbf": "x"}, 401),
        ({"iat": [1]}, 401),
        ({"iat": 4_000_000_000}, 401),
        ({"fresh": [1]}, 200),
        ({"jti": {"$gt": ""}}, 401),
    ],
)
def test_claims_are_of_their_kinds(app, client, organization, changes, status):
    """`...`: the claim is left out."""
    payload = {name: value for name, value in (claims() | changes).items() if value is not ...}
    sent = pyjwt.api_jws.encode(json.dumps(payload).encode(), KEY, algorithm="HS256", headers={"typ": "JWT"})
    headers = {"Authorization": f"Bearer {sent}"}
    assert client.get(AUDIT, headers=headers).status_code == status
    # Of an organization that was never billed: refused by the rules, after its intent was written.
    answer = client.post(f"/api/admin/billing/sync/{organization()}", headers=headers)
    assert answer.status_code == (status if status == 401 else 404)


def part(value):
    content = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "header",
    [
        {"alg": ["HS256"]},
        {"alg": "HS256", "kid": 5},
        {"alg": None},
        {},
        b"[1]",
        b"[" * 100_000,
        {"alg": "HS256", "crit": 1},
    ],
)
@pytest.mark.parametrize("payload", [b"{}", b"[" * 5000, b"\xff", b"null"])
def test_a_token_of_rubbish_is_401(client, header, payload):
    sent = ".".join([part(header), part(payload), "AA"])
    assert client.get(AUDIT, headers={"Authorization": f"Bearer {sent}"}).status_code == 401
