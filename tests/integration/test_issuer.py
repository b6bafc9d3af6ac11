"""Tokens of an issuer that publishes its keys: rotation, outages, rubbish, and how often it is asked."""

import http.server
import json
import threading
import time

import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from billing_service import create_app
from billing_service.errors import IssuerUnavailable
from billing_service.settings import Settings
from billing_service.tokens import KeySet

AUDIT = "/api/admin/billing/audit"
PRIVATE = {
    "RS256": [rsa.generate_private_key(65537, 2048) for _ in range(2)],
    "ES256": [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)],
}


def published(private, kid, **members):
    """A private key's public half as the issuer lists it."""
    algorithm = pyjwt.get_algorithm_by_name("RS256" if isinstance(private, rsa.RSAPrivateKey) else "ES256")
    return algorithm.to_jwk(private.public_key(), as_dict=True) | {"kid": kid, "use": "sig"} | members


class Issuer:
    """A key server; `answer` is what it says, `asked` counts."""

    def __init__(self):
        issuer = self
        self.asked = 0
        self.lists()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                issuer.asked += 1
                time.sleep(issuer.seconds)
                self.send_response(issuer.status)
                self.send_header("Content-Length", str(len(issuer.answer)))
                self.send_header("Location", "/elsewhere")
                self.end_headers()
                self.wfile.write(issuer.answer)

            def log_message(self, format, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/keys"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def lists(self, *keys):
        self.says(json.dumps({"keys": list(keys)}).encode())

    def says(self, answer, status=200, seconds=0.0):
        self.answer, self.status, self.seconds = answer, status, seconds

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def issuer():
    server = Issuer()
    server.lists(published(PRIVATE["RS256"][0], "first"), published(PRIVATE["ES256"][0], "curve"))
    yield server
    server.stop()


@pytest.fixture
def client(environment, app, issuer):
    """A client of an application that takes the issuer's keys."""
    from mongoengine import disconnect_all

    from billing_service.documents import connect

    given = environment | {"JWT_SECRET_KEY": "", "JWT_JWKS_URL": issuer.url, "JWT_ISSUER": "i", "JWT_AUDIENCE": "a"}
    yield create_app(Settings.from_env(given)).test_client()
    disconnect_all()
    connect(environment["MONGODB_URI"])


def token(private, kid, algorithm="RS256", **changes):
    now = int(time.time())
    payload = {"sub": "ada", "iss": "i", "aud": "a", "iat": now, "exp": now + 60, "billing_roles": ["auditor"]}
    return pyjwt.encode(payload | changes, private, algorithm, headers={"kid": kid} if kid else None)


def ask(client, sent):
    return client.get(AUDIT, headers={"Authorization": f"Bearer {sent}"})


def test_both_kinds_of_keys_are_taken_and_fetched_once(client, issuer):
    for _ in range(3):
        assert ask(client, token(PRIVATE["RS256"][0], "first")).status_code == 200
        assert ask(client, token(PRIVATE["ES256"][0], "curve", "ES256")).status_code == 200
    assert issuer.asked == 1


def test_a_new_key_is_fetched_and_the_old_one_no_longer_taken(client, issuer):
    assert ask(client, token(PRIVATE["RS256"][0], "first")).status_code == 200
    issuer.lists(published(PRIVATE["RS256"][1], "second"))
    assert ask(client, token(PRIVATE["RS256"][1], "second")).status_code == 200
    assert issuer.asked == 2
    assert ask(client, token(PRIVATE["RS256"][0], "first")).status_code == 401


def test_a_token_of_another_key_or_algorithm_is_401(client, issuer):
    for sent in (
        token(PRIVATE["RS256"][1], "first"),
        token(PRIVATE["RS256"][0], "curve"),
        token(PRIVATE["ES256"][0], "first", "ES256"),
        token(PRIVATE["RS256"][0], "unknown"),
        token(PRIVATE["RS256"][0], None),
        token("k" * 32, "first", "HS256"),
    ):
        answer = ask(client, sent)
        assert (answer.status_code, answer.json["code"]) == (401, "unauthorized")


@pytest.mark.parametrize("changes", [{"iss": "other"}, {"aud": "other"}, {"iss": ""}, {"aud": None}, {"aud": ["b"]}])
def test_a_token_of_another_issuer_or_for_others_is_401(client, issuer, changes):
    answer = ask(client, token(PRIVATE["RS256"][0], "first", **changes))
    assert (answer.status_code, answer.json["code"]) == (401, "unauthorized")


@pytest.mark.parametrize("roles", [{}, {"billing_roles": None}, {"billing_roles": "admin"}])
def test_a_token_without_the_claim_of_roles_has_no_rights(client, issuer, roles):
    """Every end user of the SaaS holds a valid token of that issuer."""
    now = int(time.time())
    claims = {"sub": "eve", "iss": "i", "aud": "a", "iat": now, "exp": now + 60} | roles
    sent = pyjwt.encode(claims, PRIVATE["RS256"][0], "RS256", headers={"kid": "first"})
    assert ask(client, sent).status_code == 403


def test_a_published_key_used_as_a_shared_secret_is_refused(client, issuer):
    """Algorithm confusion: what is public would be the secret. PyJWT does not even sign so, hence by hand."""
    import base64
    import hashlib
    import hmac

    from cryptography.hazmat.primitives import serialization

    public = PRIVATE["RS256"][0].public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    listed = json.dumps(published(PRIVATE["RS256"][0], "first")).encode()
    part = lambda content: base64.urlsafe_b64encode(content).rstrip(b"=")
    payload = token(PRIVATE["RS256"][0], "first").split(".")[1].encode()
    for secret in (pem, pem.strip(), listed):
        signed = part(b'{"alg": "HS256", "typ": "JWT", "kid": "first"}') + b"." + payload
        sent = signed + b"." + part(hmac.new(secret, signed, hashlib.sha256).digest())
        assert ask(client, sent.decode()).status_code == 401


def test_a_key_that_the_token_brings_along_is_not_taken(client, issuer):
    """Nor is one fetched from an address that the token names."""
    elsewhere = Issuer()
    elsewhere.lists(published(PRIVATE["RS256"][1], "first"))
    own = published(PRIVATE["RS256"][1], "first")
    now = int(time.time())
    claims = {"sub": "eve", "iss": "i", "aud": "a", "iat": now, "exp": now + 60, "billing_roles": ["admin"]}
    for header in ({"jwk": own}, {"jku": elsewhere.url}, {"x5u": elsewhere.url}):
        sent = pyjwt.encode(claims, PRIVATE["RS256"][1], "RS256", headers={"kid": "first"} | header)
        assert ask(client, sent).status_code == 401
    assert elsewhere.asked == 0
    elsewhere.stop()


def test_an_issuers_refresh_token_is_no_access_token(client, issuer):
    assert ask(client, token(PRIVATE["RS256"][0], "first", type="refresh")).status_code == 401


def test_a_cookie_is_not_read(client, issuer):
    """The issuer's tokens have no proof against forged requests."""
    client.set_cookie("access_token_cookie", token(PRIVATE["RS256"][0], "first"), path="/api/")
    assert client.get(AUDIT).status_code == 401


def test_tokens_that_name_no_key_do_not_ask_the_issuer(client, issuer):
    ask(client, token(PRIVATE["RS256"][0], None))
    ask(client, token("k" * 32, "z", "HS256"))
    assert issuer.asked == 0


def test_unknown_keys_do_not_hammer_the_issuer(client, issuer):
    ask(client, token(PRIVATE["RS256"][0], "first"))
    for number in range(20):
        assert ask(client, token(PRIVATE["RS256"][0], f"unknown-{number}")).status_code == 401
    assert issuer.asked == 2


UNUSABLE = [
    (b'{"keys": []}', 200),
    (b"<html>", 200),
    (b"[]", 200),
    (b"null", 200),
    (b"\xff", 200),
    (b"[" * 100_000, 200),
    (b'{"keys": {"first": 1}}', 200),
    (b'{"keys": [1, null]}', 200),
    (b'{"keys": [{"kty": "??", "kid": "first"}]}', 200),
    (b'{"keys": [{"kty": "RSA", "kid": "first", "n": "x", "e": 1}]}', 200),
    (b'{"keys": [{"kty": ["RSA"], "kid": "first"}]}', 200),
    (b'{"keys": [{"kty": "oct", "kid": "first", "k": "AAAA", "alg": "HS256"}]}', 200),
    (json.dumps({"keys": [published(PRIVATE["RS256"][0], "first", use="enc")]}).encode(), 200),
    (json.dumps({"keys": [published(PRIVATE["RS256"][0], ["first"])]}).encode(), 200),
    (b" " * (1024 * 1024 + 1), 200),
    (b"", 302),
    (b"", 404),
    (b"", 500),
]


@pytest.mark.parametrize(("answer", "status"), UNUSABLE)
def test_an_issuer_without_usable_keys_is_told_as_such(client, issuer, answer, status):
    issuer.says(answer, status)
    refused = ask(client, token(PRIVATE["RS256"][0], "first"))
    assert (refused.status_code, refused.json["code"]) == (503, "issuer_unavailable")
    assert "JWT_JWKS_URL" in refused.json["detail"]
    assert 1 <= int(refused.headers["Retry-After"]) <= 10
    for _ in range(10):
        assert ask(client, token(PRIVATE["RS256"][0], "first")).status_code == 503
    assert issuer.asked == 1


def test_one_bad_key_does_not_spoil_the_others(client, issuer):
    issuer.lists({"kty": "??", "kid": "odd"}, {}, published(PRIVATE["RS256"][0], "first"))
    assert ask(client, token(PRIVATE["RS256"][0], "first")).status_code == 200


def test_an_issuer_that_is_away_is_told_as_such(client, issuer):
    issuer.stop()
    refused = ask(client, token(PRIVATE["RS256"][0], "first"))
    assert (refused.status_code, refused.json["code"]) == (503, "issuer_unavailable")
    assert "ConnectionError" in refused.json["detail"]


def header(kid):
    return {"kid": kid, "alg": "RS256"}


def test_known_keys_serve_while_the_issuer_is_away_but_not_for_ever(issuer):
    keys = KeySet(issuer.url, fresh=0.0, oldest=0.6, pause=0.1)
    known = keys.key_of(header("first"), {})
    issuer.says(b"", 500)
    assert keys.key_of(header("first"), {}).public_numbers() == known.public_numbers()
    with pytest.raises(IssuerUnavailable):
        keys.key_of(header("unknown"), {})
    time.sleep(0.7)
    with pytest.raises(IssuerUnavailable):
        keys.key_of(header("first"), {})
    issuer.lists(published(PRIVATE["RS256"][0], "first"))
    time.sleep(0.2)
    assert keys.key_of(header("first"), {})


def test_a_key_that_was_withdrawn_is_refused_when_the_set_is_read_again(issuer):
    keys = KeySet(issuer.url, fresh=0.1, pause=0.1)
    keys.key_of(header("first"), {})
    issuer.lists(published(PRIVATE["RS256"][1], "second"))
    time.sleep(0.2)
    with pytest.raises(pyjwt.InvalidTokenError):
        keys.key_of(header("first"), {})


def test_many_at_once_ask_once(issuer):
    issuer.seconds = 0.3
    keys, found = KeySet(issuer.url), []
    threads = [threading.Thread(target=lambda: found.append(keys.key_of(header("first"), {}))) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert (len(found), issuer.asked) == (8, 1)


def test_an_issuer_that_trickles_is_given_up(issuer):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:

        def trickle():
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
                try:
                    while True:
                        connection.sendall(b" " * 8192)
                        time.sleep(1)
                except OSError:
                    pass

        threading.Thread(target=trickle, daemon=True).start()
        began = time.monotonic()
        with pytest.raises(IssuerUnavailable, match="too slow"):
            KeySet(f"http://127.0.0.1:{server.getsockname()[1]}").key_of(header("first"), {})
        assert time.monotonic() - began < 9
