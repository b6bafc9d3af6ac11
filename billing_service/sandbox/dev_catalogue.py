"""What the sandbox sells: the prices that the sample plan file names, with and without demo data."""

import requests

from billing_service.sandbox.demo import catalogue
from billing_service.sandbox.demo.at_stripe import AtStripe
from billing_service.sandbox.dev_child import CannotStart
from billing_service.sandbox.stripe.control import ControlError


def offer(api_base: str, key: str) -> None:
    """Make the products and prices that are not there; raises CannotStart."""
    try:
        with AtStripe(api_base, key) as sandbox:
            catalogue.offer(sandbox)
    except (requests.RequestException, ControlError) as error:
        raise CannotStart(f"The Stripe sandbox made no prices ({type(error).__name__}).") from error
