"""/api/openapi.json and /api/docs: generated, valid, and matching what is answered."""

import importlib.util
import re
from pathlib import Path

import jsonschema
import pytest
from openapi_spec_validator import validate


@pytest.fixture
def document(client):
    return client.get("/api/openapi.json").json


def test_it_is_a_valid_document(document):
    validate(document)


def test_every_route_of_the_api_is_in_it(app, document):
    documented = {
        (path, method.upper()) for path, item in document["paths"].items() for method in item if method != "parameters"
    }
    for rule in app.url_map.iter_rules():
        if rule.endpoint.split(".")[0] not in ("admin", "organizations"):
            continue
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        for method in rule.methods - {"HEAD", "OPTIONS"}:
            assert (path, method) in documented


def test_every_operation_says_what_it_does_in_one_line(document):
    for item in document["paths"].values():
        for operation in (item[name] for name in item if name != "parameters"):
            assert operation["summary"].endswith(".")
            assert "\n" not in operation["summary"]


def test_what_every_mutation_takes_is_documented(document):
    for action in ("sync", "link", "cancel"):
        taken = {
            each["name"]: each["in"] for each in document["paths"][ORG.format(action=action)]["post"]["parameters"]
        }
        assert taken == {"Idempotency-Key": "header", "dryRun": "query"}


def answered(document, path, method, answer):
    """Check an answer against its documented schema."""
    responses = document["paths"][path][method]["responses"]
    response = responses.get(str(answer.status_code), responses.get("default"))
    if "$ref" in response:
        response = document["components"]["responses"][response["$ref"].split("/")[-1]]
    schema = next(iter(response["content"].values()))["schema"]
    whole = {"components": document["components"], **schema}
    as_json_schema = _nullable(whole)
    jsonschema.Draft202012Validator(as_json_schema).validate(answer.json)


def _nullable(node):
    """OpenAPI 3.0's `nullable` in the words of JSON Schema."""
    if isinstance(node, list):
        return [_nullable(each) for each in node]
    if not isinstance(node, dict):
        return node
    plain = {name: _nullable(value) for name, value in node.items() if name != "nullable"}
    return {"anyOf": [plain, {"type": "null"}]} if node.get("nullable") else plain


ORG = "/api/admin/billing/{action}/{{orgId}}"


def test_answers_match_their_schemas(client, admin, billed, document):
    it = billed("pro", stored=False)
    paths = {name: ORG.format(action=name) for name in ("customer", "sync", "cancel", "link")}
    answered(document, paths["customer"], "get", client.get(paths["customer"].format(orgId=it.org_id), headers=admin))
    for name in ("sync", "cancel"):
        answered(document, paths[name], "post", client.post(paths[name].format(orgId=it.org_id), headers=admin))
    refused = client.post(paths["link"].format(orgId=it.org_id), headers=admin, json={})
    assert refused.status_code == 422
    answered(document, paths["link"], "post", refused)
    path = "/api/admin/billing/audit"
    answered(document, path, "get", client.get(path, headers=admin))


def test_the_page_loads_nothing_from_elsewhere(client):
    page = client.get("/api/docs")
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", page.text)
    for address in re.findall(r'(?:src|href)="(/api/[^"]+)"', page.text):
        with client.get(address) as answer:  # a file is open until then
            assert answer.status_code == 200, address


def test_every_error_code_has_an_anchor(client):
    from billing_service.errors import KINDS

    page = client.get("/api/docs/errors").text
    assert all(f'id="{kind.code}"' in page for kind in KINDS)


def test_the_api_reference_is_current(app, document):
    docs = Path(__file__).parents[2] / "docs"
    spec = importlib.util.spec_from_file_location("docs_generate", docs / "generate.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    text = (docs / "api.md").read_text()
    assert text == generate.of_app(app), "run make docs"
    operations = {
        (path, method) for path, item in document["paths"].items() for method in item if method != "parameters"
    }
    assert len(re.findall(r"^### `", text, re.MULTILINE)) == len(operations)
    # Every object that is linked to is there, and every route of an admin's says what it needs.
    assert set(re.findall(r"\(#(\w+)\)", text)) <= set(re.findall(r'<a id="(\w+)">', text))
    admin = re.findall(r"^### `\w+ /api/admin/.*\n\n(.*)$", text, re.MULTILINE)
    assert all(re.search(r"Needs `\w+:\w+`\.$", line) for line in admin)
