"""/healthz, /readyz, /metrics: without a token, and true."""


def test_healthz_asks_nobody(client, servers):
    servers.mongod.kill()
    try:
        assert client.get("/healthz").json == {"status": "ok"}
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json["status"]) == (503, "not_ready")
        assert ready.json["parts"]["mongodb"]["status"] == "unreachable"
    finally:
        servers.mongod.start()


def test_readyz_names_each_part(client):
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json["status"]) == (200, "ok")
    assert set(answer.json["parts"]) == {"mongodb", "redis", "stripe", "plans"}
    assert len(answer.json["parts"]["plans"]["sha256"]) == 64


def test_without_redis_it_is_degraded_and_ready(client, servers):
    servers.redis.kill()
    try:
        answer = client.get("/readyz")
    finally:
        servers.redis.start()
    assert (answer.status_code, answer.json["status"]) == (200, "degraded")
    assert answer.json["parts"]["redis"]["status"] == "unreachable"


def test_an_open_circuit_is_told(client, runtime):
    for _ in range(5):
        runtime.stripe.circuit.failed()
    assert client.get("/readyz").json["parts"]["stripe"]["status"] == "circuit_open"


def test_metrics_count_requests(client):
    client.get("/healthz")
    text = client.get("/metrics").text
    assert 'billing_requests_total{method="GET",route="/healthz",status="200"}' in text


def test_a_store_that_is_away_is_503_with_retry_after(client, admin, servers, organization):
    org_id = organization()
    servers.mongod.kill()
    try:
        answer = client.get(f"/api/admin/billing/customer/{org_id}", headers=admin)
    finally:
        servers.mongod.start()
    assert (answer.status_code, answer.json["code"]) == (503, "store_unavailable")
    assert int(answer.headers["Retry-After"]) > 0


def test_unknown_paths_and_methods_are_problems(client):
    lost = client.get("/api/nowhere")
    assert (lost.status_code, lost.json["code"], lost.content_type) == (404, "not_found", "application/problem+json")
    wrong = client.delete("/healthz")
    assert (wrong.status_code, wrong.json["code"]) == (405, "method_not_allowed")


def test_every_answer_has_a_request_id(client):
    assert (
        client.get("/healthz", headers={"X-Request-Id": "from-the-proxy-1"}).headers["X-Request-Id"]
        == "from-the-proxy-1"
    )
    hostile = client.get("/healthz", headers={"X-Request-Id": "short"}).headers["X-Request-Id"]
    assert len(hostile) == 32
