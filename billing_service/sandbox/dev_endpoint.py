"""The sandbox's webhook endpoint that points at our web process, and its signing secret."""

import requests

from billing_service.sandbox.dev_child import CannotStart
from billing_service.sandbox.dev_folder import DataFolder
from billing_service.webhooks import HANDLERS


def webhook_secret(folder: DataFolder, api_base: str, key: str, url: str) -> str:
    """The secret of the endpoint that delivers to `url`: the kept one moved there, else a new one, kept."""
    endpoint = folder.kept("webhook_endpoint", dict)
    # As billing-service webhook-types lists them.
    wanted = {"url": url} | {f"enabled_events[{place}]": each for place, each in enumerate(sorted(HANDLERS))}
    if endpoint:
        moved = _post(api_base, key, f"/v1/webhook_endpoints/{endpoint['id']}", wanted | {"disabled": "false"})
        if moved.status_code == requests.codes.ok:
            return endpoint["secret"]
    # None yet, or the sandbox's data were removed and its endpoint with them.
    created = _post(api_base, key, "/v1/webhook_endpoints", wanted)
    if created.status_code != requests.codes.ok:
        raise CannotStart(f"The Stripe sandbox refused the webhook endpoint: {created.text[:300]}")
    endpoint = {"id": created.json()["id"], "secret": created.json()["secret"]}
    folder.keep("webhook_endpoint", endpoint)
    return endpoint["secret"]


def _post(api_base: str, key: str, path: str, form: dict[str, str]) -> requests.Response:
    try:
        return requests.post(api_base + path, data=form, auth=(key, ""), timeout=10)
    except requests.RequestException as error:
        raise CannotStart(f"The Stripe sandbox did not answer ({type(error).__name__}).") from error
