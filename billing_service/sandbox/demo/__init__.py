"""Demo data: an organization for every verdict, made once, through the same doors that everybody uses.

    python -m billing_service.sandbox.demo      with the service's variables, BILLING_URL and BILLING_ADMIN_TOKEN

Whatever was finished stays as people left it; what a killed start left half done is removed and made anew.
"""

from collections.abc import Iterable

import requests
from pymongo.errors import PyMongoError

from ..dev_child import CannotStart
from ..stripe.control import ControlError
from . import catalogue, unreachable
from .organizations import ORGANIZATIONS, Organization
from .stage import Stage


def load(
    *, url: str, admin_token: str, stripe_api_base: str, stripe_secret_key: str, mongodb_uri: str
) -> tuple[Organization, ...]:
    """Make what is missing; returns all of them with the verdict that each has after it was made.

    Web and worker must be running, and the sandbox must deliver its webhooks to them. Raises CannotStart.
    """
    try:
        with Stage(url, admin_token, stripe_api_base, stripe_secret_key, mongodb_uri) as stage:
            finished = stage.finished()
            missing = [each for each in ORGANIZATIONS if each.id not in finished]
            if missing:
                _make(stage, missing)
            unreachable.keep(stage)
    except (requests.RequestException, PyMongoError, ControlError) as error:
        raise CannotStart(f"The demo data could not be made ({type(error).__name__}: {error}).") from error
    return ORGANIZATIONS


def _make(stage: Stage, missing: Iterable[Organization]) -> None:
    stage.control.hold()
    try:
        catalogue.offer(stage)
        for each in missing:
            stage.clear(each)
        for each in missing:
            stage.tell_of(each)
            each.begin(stage, each)
        stage.deliver()
        for each in missing:
            each.drift(stage, each)
        stage.lose_deliveries()
    finally:
        stage.control.auto()
    stage.finish(missing)


__all__ = ["ORGANIZATIONS", "Organization", "load"]
