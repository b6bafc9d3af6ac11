"""Load the demo data into a running system and print what there is to see."""

import os
import sys

from ..dev_child import CannotStart
from . import load


def main() -> int:
    """Exit codes: 0 all are there, or no token was given and none were made; 1 something failed."""
    token = os.environ.get("BILLING_ADMIN_TOKEN")
    if not token:
        print("There is no admin token, so there are no demo data.")
        return 0
    try:
        organizations = load(
            url=os.environ["BILLING_URL"],
            admin_token=token,
            stripe_api_base=os.environ["STRIPE_API_BASE"],
            stripe_secret_key=os.environ["STRIPE_SECRET_KEY"],
            mongodb_uri=os.environ["MONGODB_URI"],
        )
    except CannotStart as trouble:
        print(trouble, file=sys.stderr)
        return 1
    for each in organizations:
        print(f"{each.id}  {each.name:<24}  {each.verdict:<27}  {each.story}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
