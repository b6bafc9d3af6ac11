"""The plan file: which plans there are, in rank order, and which Stripe price means which plan."""

import hashlib
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


class PlanFileError(Exception):
    """The plan file cannot be used; `problems` names each line."""

    def __init__(self, path: Path, problems: list[str]):
        super().__init__(f"{path} cannot be used:\n" + "\n".join(f"  - {each}" for each in problems))
        self.problems = problems


class PricedItem(Protocol):
    """What resolution needs of a subscription's item."""

    @property
    def price_id(self) -> str | None: ...
    @property
    def price_metadata(self) -> dict[str, str]: ...


@dataclass(frozen=True)
class Plan:
    """A plan; `weekly_quota` is in units per ISO week."""

    id: str
    name: str
    weekly_quota: int
    prices: tuple[str, ...]
    rank: int


@dataclass(frozen=True)
class Pack:
    """Prepaid extras; `amount` is in minor units of `currency`."""

    id: str
    units: int
    price: str
    amount: int
    currency: str
    expires_after_days: int


@dataclass(frozen=True)
class Resolution:
    """What the items of a subscription mean. `plan` None: unresolved, never a guess."""

    plan: str | None
    price_id: str | None
    ambiguous: bool = False


_PLAN_KEYS: dict[str, type] = {"id": str, "name": str, "weekly_quota": int, "prices": list}
_PACK_KEYS: dict[str, type] = {
    "id": str,
    "units": int,
    "price": str,
    "amount": int,
    "currency": str,
    "expires_after_days": int,
}


@dataclass(frozen=True)
class Plans:
    """The plan file as read; the first plan is what an organization without a live subscription has."""

    plans: tuple[Plan, ...]
    packs: tuple[Pack, ...]
    sha256: str

    @classmethod
    def load(cls, path: Path) -> "Plans":
        """Read and check the file; raises PlanFileError with every problem and its line."""
        try:
            content = path.read_bytes()
        except OSError as error:
            raise PlanFileError(path, [str(error.strerror)]) from error
        try:
            raw = tomllib.loads(content.decode())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise PlanFileError(path, [str(error)]) from error
        problems = _problems(raw, content.decode())
        if problems:
            raise PlanFileError(path, problems)
        plans = tuple(
            Plan(each["id"], each["name"], each["weekly_quota"], tuple(each["prices"]), rank)
            for rank, each in enumerate(raw["plans"])
        )
        packs = tuple(Pack(**each) for each in raw.get("packs", []))
        return cls(plans, packs, hashlib.sha256(content).hexdigest())

    @property
    def free(self) -> str:
        """The id of the lowest plan."""
        return self.plans[0].id

    def get(self, plan_id: str | None) -> Plan | None:
        """The plan with this id, or None."""
        return next((plan for plan in self.plans if plan.id == plan_id), None)

    def quota(self, plan_id: str | None) -> int | None:
        """A plan's units per week; None: the file does not know the plan."""
        plan = self.get(plan_id)
        return None if plan is None else plan.weekly_quota

    def pack(self, pack_id: str | None) -> Pack | None:
        """The pack of extras with this id, or None."""
        return next((pack for pack in self.packs if pack.id == pack_id), None)

    def rank(self, plan_id: str | None) -> int:
        """0 for the lowest plan; a plan the file no longer knows ranks below all."""
        plan = self.get(plan_id)
        return -1 if plan is None else plan.rank

    def of_price(self, price_id: str | None) -> Plan | None:
        """The plan that lists this Stripe price."""
        return next((plan for plan in self.plans if price_id and price_id in plan.prices), None)

    def resolve(self, items: Iterable[PricedItem]) -> Resolution:
        """The plan that the items mean: by price id, else by `metadata.planId` of the price."""
        found = [(plan, item.price_id) for item in items if (plan := self._plan_of(item))]
        if not found:
            return Resolution(None, next((item.price_id for item in items), None))
        plan, price_id = max(found, key=lambda pair: pair[0].rank)
        return Resolution(plan.id, price_id, ambiguous=len(found) > 1)

    def _plan_of(self, item: PricedItem) -> Plan | None:
        return self.of_price(item.price_id) or self.get(item.price_metadata.get("planId"))


def _problems(raw: dict[str, Any], text: str) -> list[str]:
    lines = _Lines(text)
    problems = [f"line {lines.of(key)}: unknown key {key!r}" for key in raw if key not in ("plans", "packs")]
    if not raw.get("plans"):
        return [*problems, "line 1: there is no [[plans]] table; at least one plan is needed"]
    for table in ("plans", "packs"):
        if not (isinstance(raw.get(table, []), list) and all(isinstance(each, dict) for each in raw.get(table, []))):
            return [*problems, f"line {lines.of(table)}: {table!r} must be [[{table}]] tables"]
    for table, keys in (("plans", _PLAN_KEYS), ("packs", _PACK_KEYS)):
        for position, each in enumerate(raw.get(table, [])):
            at = lines.table(table, position)
            problems += [f"line {at}: {problem}" for problem in _entry_problems(each, keys)]
    problems += _repeated(raw, "plans", lines) + _repeated(raw, "packs", lines)
    listed = [plan["prices"] for plan in raw["plans"] if isinstance(plan.get("prices"), list)]
    prices = [price for each in listed for price in each if isinstance(price, str)]
    twice = sorted({price for price in prices if prices.count(price) > 1})
    return problems + [f"line {lines.last(price)}: the price {price!r} stands in two places" for price in twice]


def _entry_problems(entry: dict[str, Any], keys: dict[str, type]) -> list[str]:
    problems = [f"unknown key {key!r}" for key in entry if key not in keys]
    for key, kind in keys.items():
        value = entry.get(key)
        if key not in entry:
            problems.append(f"the key {key!r} is missing")
        elif not isinstance(value, kind) or isinstance(value, bool):
            problems.append(f"{key!r} must be of type {kind.__name__}")
        elif isinstance(value, int) and value < 0:
            problems.append(f"{key!r} must not be negative")
        elif isinstance(value, list) and not all(isinstance(each, str) and each for each in value):
            problems.append(f"{key!r} must be a list of price ids")
    return problems


def _repeated(raw: dict[str, Any], table: str, lines: "_Lines") -> list[str]:
    ids = [each.get("id") for each in raw.get(table, [])]
    return [
        f"line {lines.table(table, position)}: the id {each!r} stands in two places"
        for position, each in enumerate(ids)
        if each in ids[:position]
    ]


class _Lines:
    """Where something stands in the file: tomllib itself does not tell."""

    def __init__(self, text: str):
        self.lines = text.splitlines()

    def of(self, key: str) -> int:
        pattern = re.compile(rf"\s*\[*\s*\"?{re.escape(key)}\b")
        return next((number for number, line in enumerate(self.lines, 1) if pattern.match(line)), 1)

    def last(self, word: str) -> int:
        return max((number for number, line in enumerate(self.lines, 1) if word in line), default=1)

    def table(self, name: str, position: int) -> int:
        header = re.compile(rf"\s*\[\[\s*{name}\s*\]\]")
        starts = [number for number, line in enumerate(self.lines, 1) if header.match(line)]
        return starts[position] if position < len(starts) else 1
