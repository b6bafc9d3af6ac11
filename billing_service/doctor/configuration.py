"""The configuration: why nothing starts with it, and what is unwise with a live key."""

from collections.abc import Iterable, Iterator

from ..runtime import Runtime
from ..settings import SAMPLE_PLANS
from .findings import Report, Seen, fine

CHECK = "configuration"


def refused(code: str, problems: Iterable[str]) -> Report:
    """The report of a service that cannot start: each problem, and that nothing else was looked at."""
    found = [Seen(code, problem).finding(CHECK) for problem in problems]
    rest = Seen("not_checked", "Everything else: nothing is asked of anybody with a configuration that is refused.")
    return Report.of([*found, rest.finding(CHECK)])


def look_at_configuration(site: Runtime) -> Iterator[Seen]:
    """What is allowed, and should not be so in live mode."""
    yield fine(f"The configuration is complete; the plan file is {site.plans.sha256[:12]}.")
    if not site.settings.livemode:
        return
    if site.settings.billing_plans == SAMPLE_PLANS:
        yield Seen("sample_plans_in_live_mode", "BILLING_PLANS is not set: the sample's plans are used.")
    if not site.settings.alert_webhook_url:
        yield Seen("no_alert_receiver", "ALERT_WEBHOOK_URL is not set.")
