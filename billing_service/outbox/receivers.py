"""The webhooks that signals are sent to: one request each, bounded in time, and a rest for one that is away."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import urlsplit

import requests
import urllib3
from requests.auth import HTTPBasicAuth
from requests.utils import get_auth_from_url

from ..documents import OutboxSignal
from ..settings import Settings
from .audiences import BACKEND, PEOPLE
from .messages import SIGNATURE_HEADER, as_json, as_words, message_of, signature

TIMEOUT_SECONDS = (5.0, 10.0)
REST_SECONDS = 5.0
LONGEST_REST_SECONDS = 300.0
# Not about this signal: the receiver, or what stands before it, wants to be left alone.
AWAY = frozenset({429, 502, 503, 504})


@dataclass(frozen=True)
class Receiver:
    """A webhook; `name` is what stands in a signal's `sent_to`. Slack's addresses are secrets too."""

    name: str
    url: str = field(repr=False)
    secret: str = field(default="", repr=False)
    in_words: bool = False


@dataclass(frozen=True)
class Answer:
    """What came of one request: `error` is None when it was accepted; `away_seconds` to leave the receiver alone."""

    error: str | None
    seconds: float
    away_seconds: float = 0.0


class Rests:
    """Receivers that did not answer a moment ago: nobody in this process waits for them again for a while.

    A rest is twice as long as the failure took, so that a receiver that hangs has at most a third of the worker.
    """

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def left(self, receiver: Receiver) -> float:
        """Seconds that the receiver still rests."""
        return max(0.0, self._until.get(receiver.url, 0.0) - time.monotonic())

    def begin(self, receiver: Receiver, seconds: float) -> None:
        self._until[receiver.url] = time.monotonic() + seconds

    def end(self) -> None:
        self._until.clear()


rests = Rests()


def receivers_of(settings: Settings) -> tuple[Receiver, ...]:
    """The webhooks that are set, people first: theirs are few and urgent."""
    people = Receiver(PEOPLE, settings.alert_webhook_url, settings.alert_webhook_secret, settings.alerts_in_words)
    backend = Receiver(BACKEND, settings.event_webhook_url, settings.event_webhook_secret)
    return tuple(each for each in (people, backend) if each.url)


def tell(receiver: Receiver, row: OutboxSignal, *, now: datetime) -> Answer:
    """Send a signal once; whatever is not a 2xx, a redirect too, is an error."""
    message = message_of(row)
    body = as_words(message) if receiver.in_words else as_json(message)
    headers = {"Content-Type": "application/json; charset=utf-8", "User-Agent": "billing-service"}
    if receiver.secret:
        headers[SIGNATURE_HEADER] = signature(body, receiver.secret, now)
    begun = time.monotonic()
    try:
        status, wanted = _post(receiver, body, headers)
    except (OSError, ValueError, urllib3.exceptions.HTTPError) as error:
        # The class alone: the messages of these errors contain the address.
        return _failed(f"{receiver.name}: {type(error).__name__}", begun, away=True)
    if 200 <= status < 300:
        return Answer(None, time.monotonic() - begun)
    return _failed(f"{receiver.name}: answered {status}", begun, away=status in AWAY, wanted=wanted)


def _failed(error: str, begun: float, *, away: bool, wanted: float = 0.0) -> Answer:
    seconds = time.monotonic() - begun
    return Answer(error, seconds, max(REST_SECONDS, 2 * seconds, wanted) if away else 0.0)


def _post(receiver: Receiver, body: bytes, headers: dict[str, str]) -> tuple[int, float]:
    """The answer's status and the seconds of its Retry-After. The answer's body is never read."""
    with requests.Session() as session:
        # Another machine may only be reached through the operator's proxy (HTTPS_PROXY) and trusted by their own
        # certificates (REQUESTS_CA_BUNDLE). Plain http is this machine, where no proxy belongs in between.
        session.trust_env = urlsplit(receiver.url).scheme == "https"
        with session.post(
            receiver.url,
            data=body,
            headers=headers,
            timeout=TIMEOUT_SECONDS,
            allow_redirects=False,
            stream=True,
            auth=_auth(receiver.url),
        ) as answer:
            wanted = answer.headers.get("Retry-After", "")
            return answer.status_code, min(float(wanted), LONGEST_REST_SECONDS) if wanted.isdecimal() else 0.0


def _auth(url: str) -> Callable[[requests.PreparedRequest], requests.PreparedRequest]:
    """The address's own user and password; without, none: requests would look into ~/.netrc for one."""
    user, password = get_auth_from_url(url)
    return HTTPBasicAuth(user, password) if user else lambda request: request
