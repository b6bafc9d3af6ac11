"""Request parameters: Stripe's bracketed form encoding, checked against parameters.json (an extract of Stripe's
OpenAPI document: every parameter of every endpoint served here, with its type)."""

from __future__ import annotations

import re
from importlib.resources import files
from itertools import pairwise
from urllib.parse import parse_qsl

import orjson

from .problems import Problem, invalid, not_imitated, required, unknown_parameter

KNOWN = orjson.loads(files(__package__).joinpath("parameters.json").read_bytes())
PART = re.compile(r"^[^\[\]]+|\[([^\[\]]*)\]")
NEVER_EMPTY = {"customer", "price", "product", "subscription", "invoice", "starting_after", "ending_before"}


def decode(text: str) -> dict:
    """`items[0][price]=x&expand[]=y` as nested dicts; arrays are dicts with the positions as keys."""
    tree: dict = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        parts = [match.group(1) if match.group(1) is not None else match.group(0) for match in PART.finditer(name)]
        if parts:
            plant(tree, parts, value)
    return tree


def plant(tree, parts, value):
    node = tree
    for part, following in pairwise(parts):
        key = part or next_position(node, following)
        child = node.get(key)
        if not isinstance(child, dict):
            child = node[key] = {}
        node = child
    node[parts[-1] or str(len(node))] = value


def next_position(node, following):
    """`items[][price]=…&items[][quantity]=…` is one element until a name comes a second time."""
    last = str(len(node) - 1)
    return last if node and isinstance(node[last], dict) and following not in node[last] else str(len(node))


def checked(endpoint: str, given: dict, takes: frozenset) -> dict:
    """The parameters with their types, or Stripe's refusal. `takes`: those which the sandbox acts upon."""
    spec = KNOWN[endpoint]
    for name in given:
        if name not in spec["h"]:
            raise unknown_parameter(name)
    for name in spec.get("r", ()):
        if name not in given:
            raise required(name)
    answer = {}
    for name, value in given.items():
        answer[name] = typed(value, spec["h"][name], name)
        if name not in takes and name != "expand":
            raise not_imitated(f"the parameter {name} of {endpoint}")
    return answer


def typed(value, spec, name):
    try:
        return convert(value, spec, name)
    except Problem as problem:
        problem.executed = False
        raise


def convert(value, spec, name):
    if isinstance(spec, str):
        return SCALARS[spec](value, name)
    if "e" in spec:
        return one_of(value, spec["e"], name)
    if "a" in spec:
        return array(value, spec["a"], name)
    if "m" in spec:
        return {key: convert(item, spec["m"], f"{name}[{key}]") for key, item in mapping(value, name).items()}
    if "o" in spec:
        return any_of(value, spec["o"], name)
    return fields(value, spec, name)


def fields(value, spec, name):
    answer = {}
    for key, item in mapping(value, name).items():
        if key not in spec["h"]:
            raise unknown_parameter(f"{name}[{key}]")
        answer[key] = convert(item, spec["h"][key], f"{name}[{key}]")
    for key in spec.get("r", ()):
        if key not in answer:
            raise required(f"{name}[{key}]")
    return answer


def array(value, spec, name):
    if value == "":
        return []
    items = mapping(value, name, "array")
    if not all(key.isdigit() for key in items):
        raise invalid("Invalid array", name)
    return [convert(items[key], spec, f"{name}[{key}]") for key in sorted(items, key=int)]


def any_of(value, specs, name):
    for spec in specs:
        if isinstance(spec, dict) and spec.get("e") == [""] and value == "":
            return ""
    problem = None
    for spec in specs:
        if isinstance(value, str) and isinstance(spec, dict) and "e" not in spec and value != "":
            continue
        try:
            return convert(value, spec, name)
        except Problem as found:
            problem = problem if problem and problem.error.get("code") == "parameter_unknown" else found
    raise problem or invalid("Invalid object", name)


def one_of(value, choices, name):
    if value in choices:
        return value
    raise invalid(
        f"Invalid {name}: must be one of {', '.join(str(choice) for choice in choices if choice != '')}", name
    )


def mapping(value, name, noun="object"):
    if isinstance(value, dict):
        return value
    raise invalid(f"Invalid {noun}", name)


def string(value, name):
    if not isinstance(value, str):
        raise invalid(f"Invalid string: {value}", name)
    if value == "" and name in NEVER_EMPTY:
        raise invalid(
            f"You passed an empty string for '{name}'. We assume empty values are an attempt to unset a "
            f"parameter; however '{name}' cannot be unset. You should remove '{name}' from your request or "
            "supply a non-empty value.",
            name,
            "parameter_invalid_empty",
        )
    if len(value) > 5000:
        raise invalid(f"Invalid string: {name} must be at most 5000 characters", name)
    return value


def integer(value, name):
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,18}", value):
        return int(value)
    raise invalid(f"Invalid integer: {value}", name, "parameter_invalid_integer")


def boolean(value, name):
    if value in ("true", "false"):
        return value == "true"
    raise invalid(f"Invalid boolean: {value}", name)


def number(value, name):
    try:
        return float(value)
    except (TypeError, ValueError):
        raise invalid(f"Invalid decimal: {value}", name) from None


SCALARS = {"s": string, "i": integer, "b": boolean, "n": number}
