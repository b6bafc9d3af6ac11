"""How many events a second the endpoint accepts, beside the smallest route that verifies and inserts."""

from dataclasses import dataclass, field

from . import machine
from .client import Answers, Load, post
from .installation import Installation, Web
from .scale import CONNECTIONS, Scale, median

# More than any server here accepts in a second, so that the time ends a load and not the events.
PREPARED_A_SECOND = 2_500


@dataclass
class Side:
    """One of the two servers, and what it did each time."""

    name: str
    web: Web
    mongod: int
    runs: list[Answers] = field(default_factory=list)
    processor: list[tuple[float, float]] = field(default_factory=list)

    def measure(self, installation: Installation, seconds: float) -> None:
        events = int(PREPARED_A_SECOND * seconds)
        first = installation.take(events)
        before = self._used()
        answers = post(Load(self.web.port, installation.population, seconds, CONNECTIONS, events, first))
        after = self._used()
        assert not answers.refused, f"{answers.refused} answers of {self.name} were no 200"
        self.runs.append(answers)
        count = len(answers.latencies)
        self.processor.append(((after[0] - before[0]) / count, (after[1] - before[1]) / count))

    def _used(self) -> tuple[float, float]:
        workers = machine.children(self.web.child.pid or 0)
        return sum(machine.cpu_seconds(each) for each in workers), machine.cpu_seconds(self.mongod)

    def line(self) -> str:
        rate = median(each.rate for each in self.runs)
        p50, p99 = (median(each.percentile(share) for each in self.runs) * 1000 for share in (0.5, 0.99))
        ours, stores = (median(each[place] for each in self.processor) * 1e6 for place in (0, 1))
        memory = " + ".join(f"{each:.0f}" for each in self.web.megabytes)
        return (
            f"  {self.name:<34}{rate:7.0f}/s   p50 {p50:6.1f} ms   p99 {p99:6.1f} ms   "
            f"CPU per event {ours:5.0f} us web, {stores:4.0f} us mongod   RSS {memory} MB"
        )


def run(installation: Installation, scale: Scale) -> float:
    """Print the comparison; returns the events accepted per second."""
    mongod = int(installation.database.client.admin.command("serverStatus")["pid"])
    with installation.web() as web, installation.bare_web() as bare_web:
        ours, bare = Side("POST /api/billing/webhook", web, mongod), Side("verify and insert, bare", bare_web, mongod)
        for side in (ours, bare):
            side.measure(installation, min(1.0, scale.accept_seconds))
            side.runs.clear()
            side.processor.clear()
        for _ in range(scale.pairs):
            ours.measure(installation, scale.accept_seconds)
            bare.measure(installation, scale.accept_seconds)
        print(f"Accepting: {CONNECTIONS} connections, signed events of about 4 KB, medians of {scale.pairs} pairs")
        print(ours.line(), bare.line(), sep="\n")
        ratio = median(mine.rate / other.rate for mine, other in zip(ours.runs, bare.runs, strict=True))
        print(f"  ratio {ratio:.2f} (target: at least 0.60)\n")
    return median(each.rate for each in ours.runs)
