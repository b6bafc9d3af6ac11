"""The ledger of events from the command line."""

import click

from .group import cli, say


@cli.command("webhook-types")
@click.option("--json", "as_json", is_flag=True)
def webhook_types(as_json: bool) -> None:
    """List the event types to enable for the webhook endpoint at Stripe."""
    from ..webhooks import HANDLERS

    types = sorted(HANDLERS)
    say(as_json, {"types": types}, "\n".join(types))
