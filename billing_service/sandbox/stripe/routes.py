"""The table of endpoints: a method and Stripe's own path template, the function behind it, the parameters it acts
upon."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from .problems import Problem, unknown_path

ROUTES: list[Route] = []


@dataclass(frozen=True)
class Route:
    method: str
    template: str
    function: Callable
    takes: frozenset
    pattern: re.Pattern

    @property
    def endpoint(self) -> str:
        return f"{self.method} {self.template}"

    @property
    def resource(self) -> str:
        first, *rest = self.template.split("/")[2:]
        return f"checkout_{rest[0]}" if first == "checkout" else first


@dataclass
class Call:
    """One request as an endpoint sees it."""

    sandbox: object
    books: object
    params: dict
    path: dict
    version: str

    def given(self, *names) -> dict:
        return {name: self.params[name] for name in names if name in self.params}


def route(method: str, template: str, takes: str = ""):
    def register(function):
        pattern = re.compile("^" + re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", template) + "$")
        ROUTES.append(Route(method, template, function, frozenset(takes.split()), pattern))
        return function

    return register


def find(method: str, path: str) -> tuple[Route, dict]:
    for candidate in ROUTES:
        if candidate.method == method:
            match = candidate.pattern.match(path)
            if match:
                return candidate, match.groupdict()
    if any(candidate.pattern.match(path) for candidate in ROUTES) and method not in ("GET", "POST", "DELETE"):
        raise Problem(405, f"Invalid request method: {method}", executed=False)
    raise unknown_path(method, path)
