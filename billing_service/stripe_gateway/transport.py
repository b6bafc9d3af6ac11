"""How the SDK's requests reach the network: one attempt, bounded in time, and known to be sent or not.

The SDK's own client has no bound for an answer that trickles, and catches every exception: also the one
that RQ raises in a job that runs out of time, which it would report as a broken connection.
"""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import requests
import stripe
import urllib3
from requests.structures import CaseInsensitiveDict

CHUNK_BYTES = 65_536
# Ten times a page of 100 subscriptions with metadata; more than this is not an answer of Stripe's.
ANSWER_BYTES = 32 * 1024 * 1024


class NotSent(stripe.APIConnectionError):
    """No connection came about, so the request cannot have had an effect."""


class Received(CaseInsensitiveDict):
    """The headers of an answer with success, and its unparsed `content`.

    The SDK would parse a page into ordered dicts and never look at them, at four times the cost of what reads it here.
    """

    def __init__(self, headers: Mapping[str, str], content: bytes):
        super().__init__(headers)
        self.content = content


class Transport(stripe.HTTPClient):
    """Stripe's HTTP client on requests, one session per thread. Timeouts are seconds.

    The content of an answer with success is in its headers (`Received`); what the SDK gets in its place is `{}`.
    """

    name = "requests"

    def __init__(self, connect_timeout: float, read_timeout: float, monotonic: Callable[[], float] = time.monotonic):
        super().__init__()
        self._timeout = (connect_timeout, read_timeout)
        self._monotonic = monotonic
        self._sessions = threading.local()

    def request(
        self, method: str, url: str, headers: Mapping[str, str] | None, post_data: Any = None, **_: Any
    ) -> tuple[Any, int, Mapping[str, str]]:
        """Send one request; raises NotSent or stripe.APIConnectionError."""
        deadline = self._monotonic() + sum(self._timeout)
        try:
            with self._session().request(
                method,
                url,
                headers=headers,
                data=post_data,
                timeout=self._timeout,
                verify=stripe.ca_bundle_path,
                stream=True,
                # Stripe never redirects; following one would send a POST on as a GET.
                allow_redirects=False,
                # Without this, requests would put a ~/.netrc entry in the place of our key.
                auth=_keep_headers,
            ) as response:
                body = self._body(response, deadline)
                if 200 <= response.status_code < 300:
                    return b"{}", response.status_code, Received(response.headers, body)
                return body, response.status_code, response.headers
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise _connection_error(error) from error

    def close(self) -> None:
        session = getattr(self._sessions, "session", None)
        if session is not None:
            session.close()

    def _session(self) -> requests.Session:
        if not hasattr(self._sessions, "session"):
            self._sessions.session = requests.Session()
        return self._sessions.session

    def _body(self, response: requests.Response, deadline: float) -> bytes:
        # The read timeout is per read of the socket: only the deadline ends an answer that trickles.
        body = bytearray()
        while chunk := response.raw.read1(CHUNK_BYTES, decode_content=True):
            body += chunk
            if len(body) > ANSWER_BYTES:
                raise requests.exceptions.ContentDecodingError("the answer is too large")
            if self._monotonic() > deadline:
                raise requests.ReadTimeout("the answer did not end in time")
        return bytes(body)


def _keep_headers(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _connection_error(error: Exception) -> stripe.APIConnectionError:
    kind = NotSent if _is_unsent(error) else stripe.APIConnectionError
    return kind(type(error).__name__)


def _is_unsent(error: Exception) -> bool:
    if isinstance(error, (requests.ConnectTimeout, requests.exceptions.ProxyError)):
        return True
    cause = error.args[0] if error.args else None
    # requests wraps: ConnectionError(MaxRetryError(reason=NewConnectionError(…))).
    reason = getattr(cause, "reason", cause)
    return isinstance(reason, (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError))
