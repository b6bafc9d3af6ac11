"""A connection to the Stripe sandbox: looking at what it has, and asking it for changes as Stripe's forms do."""

from typing import Any, Self

import requests

from ..dev_child import CannotStart
from ..stripe.control import Control


class AtStripe:
    """Bare requests, and the sandbox's control plane."""

    def __init__(self, stripe_api_base: str, stripe_secret_key: str):
        self.stripe_api_base = stripe_api_base.rstrip("/")
        self.control = Control(stripe_api_base)
        self._key = {"Authorization": f"Bearer {stripe_secret_key}"}
        self._http = requests.Session()
        self._http.trust_env = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()
        self.control.close()

    def look(self, path: str, **query: Any) -> dict | None:
        """What Stripe has there; None when it knows no such object."""
        answer = self._http.get(self.stripe_api_base + path, params=query, headers=self._key, timeout=30)
        return None if answer.status_code == requests.codes.not_found else answered(answer)

    def ask(self, path: str, form: dict[str, Any] | None = None, method: str = "POST") -> dict:
        """A change at Stripe; the keys of `form` are spelt as Stripe's forms spell them (`items[0][price]`)."""
        made = self._http.request(method, self.stripe_api_base + path, data=form, headers=self._key, timeout=30)
        return answered(made)


def answered(answer: requests.Response) -> dict:
    """The answer's JSON; raises CannotStart when it is a refusal."""
    if not answer.ok:
        asked = f"{answer.request.method} {answer.request.path_url}"
        raise CannotStart(
            f"The demo data could not be made: {asked} was answered {answer.status_code}: {answer.text[:300]}"
        )
    return answer.json()
