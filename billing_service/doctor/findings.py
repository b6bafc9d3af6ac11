"""What a check found, and what all of them found together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..observability import mask
from .problems import PROBLEMS

ERROR, WARNING, OK = "error", "warning", "ok"
SEVERITIES = (ERROR, WARNING, OK)


@dataclass(frozen=True)
class Finding:
    """What is so (`what`), and for a problem why it matters and what to do; `code` is stable."""

    check: str
    code: str
    severity: str
    what: str
    why: str | None = None
    do: str | None = None

    def facts(self) -> dict[str, Any]:
        """The finding as plain values."""
        return {name: getattr(self, name) for name in ("code", "severity", "check", "what", "why", "do")}


@dataclass(frozen=True)
class Seen:
    """What a check says: a problem's code or `ok`, and what it saw, without secrets."""

    code: str
    what: str

    def finding(self, check: str) -> Finding:
        """The same with all that is known of the code."""
        what = mask(self.what)
        if self.code == OK:
            return Finding(check, OK, OK, what)
        known = PROBLEMS[self.code]
        return Finding(check, self.code, known.severity, what, known.why, known.do)


def fine(what: str) -> Seen:
    """What is as it should be."""
    return Seen(OK, what)


@dataclass(frozen=True)
class Report:
    """All findings, errors first."""

    findings: tuple[Finding, ...]

    @classmethod
    def of(cls, findings: Sequence[Finding]) -> "Report":
        """A report of these, in the order in which they should be read, those of a code together."""
        places = {each.code: place for place, each in reversed(list(enumerate(findings)))}
        return cls(tuple(sorted(findings, key=lambda each: (SEVERITIES.index(each.severity), places[each.code]))))

    @property
    def severity(self) -> str:
        """The worst there is."""
        return self.findings[0].severity if self.findings else OK

    def count(self, severity: str) -> int:
        return sum(each.severity == severity for each in self.findings)
