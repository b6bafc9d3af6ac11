"""Bodies, queries, methods and headers as no well-meaning client sends them: a 4xx with a reason, and nothing done."""

import base64
import contextlib
import io
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
import requests

from billing_service import observability
from billing_service.sandbox.servers import free_port

COMMAND = [sys.executable, "-c", "from billing_service.cli import main; main()", "web", "--port"]
MEBIBYTE = 1024 * 1024
AUDIT = "/api/admin/billing/audit"


@pytest.fixture(scope="module")
def web(wired, environment, tmp_path_factory):
    """The address of a real web process, as operators run it."""
    port = free_port()
    path = tmp_path_factory.mktemp("web") / "log"
    with path.open("wb") as log:
        process = subprocess.Popen(
            [*COMMAND, str(port)], env=os.environ | environment | {"WEB_WORKERS": "1"}, stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            assert process.poll() is None, path.read_text()
            assert time.monotonic() < deadline, path.read_text()
            time.sleep(0.1)
        yield ("127.0.0.1", port)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
    assert "internal_error" not in path.read_text()


@pytest.fixture
def sent(web):
    """Sends bytes to the web process and no more; returns status and problem of the answer."""

    def send(content):
        with socket.create_connection(web, timeout=15) as connection:
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
            answer = b""
            while part := connection.recv(65536):
                answer += part
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(body)

    return send


def head(path, headers, *lines, method="POST"):
    """The head of a JSON request, ready for its body."""
    given = [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(
        [f"{method} {path} HTTP/1.1", "Host: x", *given, "Content-Type: application/json", *lines, "", ""]
    ).encode()


LENGTH = "Content-Length: 22"
CHUNKED = "Transfer-Encoding: chunked"


@pytest.mark.parametrize(
    ("line", "body"),
    [
        (LENGTH, b""),
        (LENGTH, b'{"mode": "pe'),
        (LENGTH, b'{"mode": "now"}'),
        (CHUNKED, b""),
        (CHUNKED, b'16\r\n{"mode": "pe'),
        (CHUNKED, b"2\r\n{}\r\n"),
        (CHUNKED, b"ZZ\r\n{}\r\n0\r\n\r\n"),
        (CHUNKED, b"2\r\n{}XX0\r\n\r\n"),
        (CHUNKED, b"-2\r\n{}\r\n0\r\n\r\n"),
        (CHUNKED, b"0\r\nbad trailer\r\n\r\n"),
    ],
)
def test_a_body_that_does_not_arrive_whole_does_nothing(sent, billed, admin, sandbox, stripe, line, body):
    it = billed("pro")
    before = it.row.to_mongo()
    sandbox.clear_requests()
    status, problem = sent(head(f"/api/admin/billing/cancel/{it.org_id}", admin, line) + body)
    assert (status, problem["code"]) == (400, "bad_request")
    assert "arrive" in problem["detail"]
    assert it.row.to_mongo() == before
    assert sandbox.requests()["items"] == []
    assert stripe.subscriptions.retrieve(it.subscription).status == "active"


def test_a_webhook_that_does_not_arrive_whole_is_told_so(sent):
    path = "/api/billing/webhook"
    for line, body in ((LENGTH, b'{"id": "e'), (CHUNKED, b"ZZ\r\n{}\r\n0\r\n\r\n")):
        status, problem = sent(head(path, {"Stripe-Signature": "t=1,v1=00"}, line) + body)
        assert (status, problem["code"]) == (400, "bad_request"), body


def test_bodies_that_arrive_whole_are_read(web, billed, admin):
    it = billed("pro")
    url = f"http://{web[0]}:{web[1]}/api/admin/billing/cancel/{it.org_id}?dryRun=true"
    headers = admin | {"Content-Type": "application/json", "Connection": "close"}
    for data in (b"", b"{}", iter([b'{"mode": "peri', b'od_end"}'])):
        with requests.post(url, headers=headers, data=data, timeout=10) as answer:
            assert (answer.status_code, answer.json()["dryRun"]) == (200, True)


@pytest.mark.parametrize("path", ["/api/admin/billing/sync/{org_id}", "/api/billing/webhook"])
@pytest.mark.parametrize("blocks", [10, 160])
def test_a_chunked_body_above_the_limit_is_too_large(web, billed, admin, path, blocks):
    it = billed("pro")
    parts = [b"{", *[b" " * 65536] * blocks, b"}"]
    content = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    with socket.create_connection(web, timeout=15) as connection:
        connection.sendall(head(path.format(org_id=it.org_id), admin, CHUNKED))
        with contextlib.suppress(OSError):  # it may be refused before it was sent
            connection.sendall(content + b"0\r\n\r\n")
        answer = connection.recv(65536)
    status = int(answer.split()[1])
    assert status == (413 if blocks * 65536 > MEBIBYTE else 200 if "sync" in path else 400)
    if status == 413:
        assert b"payload_too_large" in answer


@pytest.mark.parametrize("extra", [-1, 0, 1, 1000])
def test_the_limit_is_a_mebibyte_with_a_length_too(client, billed, admin, extra):
    it = billed("pro")
    body = b"{" + b" " * (MEBIBYTE - 2 + extra) + b"}"
    url = f"/api/admin/billing/sync/{it.org_id}?dryRun=true"
    answer = client.post(url, headers=admin, data=body, content_type="application/json")
    assert answer.status_code == (413 if extra > 0 else 200)


def routes(app):
    """(rule, path) of every route, with something in the place of each argument."""
    values = {"org_id": "5" * 24, "name": "x"}
    for rule in app.url_map.iter_rules():
        path = rule.rule
        for argument in rule.arguments:
            for pattern in (f"<org_id:{argument}>", f"<path:{argument}>", f"<{argument}>"):
                path = path.replace(pattern, values.get(argument, "evt_1"))
        yield rule, path


@pytest.mark.parametrize("with_token", [True, False])
def test_options_tells_what_is_allowed_and_nothing_else(app, client, admin, with_token):
    for rule, path in routes(app):
        answer = client.options(path, headers=admin if with_token else {})
        assert (answer.status_code, answer.data) == (200, b""), path
        # Two rules may share a path.
        assert set(answer.allow) >= set(rule.methods), path
        assert "TRACE" not in answer.allow, path


def test_options_of_a_malformed_path_does_not_fail(client):
    assert client.options("/api/admin/billing/customer/x%00").status_code < 500


def test_head_needs_the_same_rights_as_get(app, client, admin, token):
    found = []
    for rule, path in routes(app):
        if "HEAD" not in rule.methods or rule.endpoint.split(".")[0] not in ("admin", "organizations"):
            continue
        found.append(path)
        assert client.head(path).status_code == 401, path
        assert client.head(path, headers=token("service")).status_code == 403, path
        assert client.head(path, headers=admin).status_code == client.get(path, headers=admin).status_code, path
    assert len(found) >= 2


@pytest.mark.parametrize("method", ["PATCH", "TRACE", "FOO", "CONNECT", "PROPFIND"])
def test_a_method_that_a_route_lacks_is_405_and_names_those_it_has(client, admin, method):
    answer = client.open(f"/api/admin/billing/sync/{'5' * 24}", method=method, headers=admin)
    assert (answer.status_code, answer.json["code"]) == (405, "method_not_allowed")
    assert set(answer.allow) == {"OPTIONS", "POST"}


@pytest.mark.parametrize("path", ["/console", "/console/console.js", "/api/docs/assets/swagger-ui.css"])
@pytest.mark.parametrize("given", ["bytes=99999999-", "x", "bytes=-", "bytes=5-1", "bytes=\x7f"])
def test_a_range_that_does_not_exist_is_416(client, path, given):
    with client.get(path, headers={"Range": given}) as answer:
        assert answer.status_code in (200, 206, 416)
        if answer.status_code == 416:
            assert answer.json["code"] == "range_not_satisfiable"
    with client.get(path, headers={"Range": "bytes=99999999-"}) as answer:
        assert answer.status_code == 416
        assert answer.headers["Content-Range"].startswith("bytes */")


@pytest.mark.parametrize(
    "path", ["/console/%00", "/console/%ff", "/api/docs/assets/%00", "/%ff", "//", "/console/../x"]
)
def test_a_path_of_rubbish_is_not_found(client, path):
    assert client.get(path).status_code in (301, 308, 400, 404)


@pytest.mark.parametrize(
    "body",
    [
        b'{"mode": "now", "mode": "period_end"}',
        b'{"note": "a", "\\u006eote": "b"}',
        b'{"note": NaN}',
        b'{"note": Infinity}',
        b'{"note": {"a": 1, "a": 2}}',
    ],
)
def test_a_body_with_two_meanings_is_refused(client, billed, admin, sandbox, body):
    it = billed("pro")
    sandbox.clear_requests()
    for action in ("cancel", "sync", "link"):
        url = f"/api/admin/billing/{action}/{it.org_id}"
        answer = client.post(url, headers=admin, data=body, content_type="application/json")
        assert (answer.status_code, answer.json["code"]) == (400, "bad_request"), action
    assert sandbox.requests()["items"] == []


@pytest.mark.parametrize(
    "query", ["dryRun=false&dryRun=true", "dryRun=true&dryRun=false", "dryRun=true&dryRun=true", "x=1&x=2"]
)
def test_a_query_with_two_meanings_is_refused(client, billed, admin, sandbox, query):
    it = billed("pro")
    sandbox.clear_requests()
    name = query.split("=")[0]
    for action in ("cancel", "sync", "link"):
        answer = client.post(f"/api/admin/billing/{action}/{it.org_id}?{query}", headers=admin, json={})
        assert (answer.status_code, answer.json["code"]) == (422, "invalid_request"), action
        assert list(answer.json["errors"]) == [name]
    assert sandbox.requests()["items"] == []
    assert client.get(f"{AUDIT}?limit=5&limit=7", headers=admin).status_code == 422


def forged(content):
    return base64.urlsafe_b64encode(content).decode()


@pytest.mark.parametrize(
    "cursor",
    [
        forged(b"[true,null]"),
        forged(b"[1,null]"),
        forged(b"[null,null]"),
        forged(b'[true,"5f5f5f5f5f5f5f5f5f5f5f5f"]'),
        forged(b'[1.5,"5f5f5f5f5f5f5f5f5f5f5f5f"]'),
        forged(b'[1e400,"5f5f5f5f5f5f5f5f5f5f5f5f"]'),
        forged(b'[-99999999999999,"5f5f5f5f5f5f5f5f5f5f5f5f"]'),
        forged(b'[1,"5f5f5f5f5f5f5f5f5f5f5f5f",1]'),
        forged(b'{"1":1,"2":2}'),
        forged(b"[" * 50),
        "x",
        "%00",
        "W10=",
    ],
)
def test_a_forged_cursor_is_refused(client, admin, cursor):
    answer = client.get(f"{AUDIT}?cursor={cursor}", headers=admin)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request")


def test_a_cursor_that_was_given_is_taken(client, billed, admin):
    it = billed("pro")
    for _ in range(3):
        client.post(f"/api/admin/billing/sync/{it.org_id}", headers=admin)
    first = client.get(f"{AUDIT}?limit=4", headers=admin).json
    rest = client.get(f"{AUDIT}?limit=4&cursor={first['nextCursor']}", headers=admin).json
    assert len({each["id"] for each in first["items"] + rest["items"]}) == 6


def test_what_a_refusal_quotes_is_masked_in_the_log(client, billed, admin):
    it = billed("pro")
    handlers, lines = list(logging.root.handlers), io.StringIO()
    observability.configure("INFO", lines)
    try:
        body = b'{"sk_live_abcdefghijkl": 1, "sk_live_abcdefghijkl": 2}'
        url = f"/api/admin/billing/sync/{it.org_id}"
        assert client.post(url, headers=admin, data=body, content_type="application/json").status_code == 400
    finally:
        observability.configure("INFO")
        logging.root.handlers[:] = handlers
    assert "[masked]" in lines.getvalue()
    assert "sk_live_" not in lines.getvalue()
