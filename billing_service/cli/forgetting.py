"""Erasing a customer's personal data from what is stored."""

import re
import sys
from typing import Any

import click
from flask import Flask

from .group import cli, say, with_app
from .terminal import note, plain, refusals_told

_CUSTOMER = re.compile(r"cus_[A-Za-z0-9_]{1,200}")


def _customer(context: click.Context, parameter: click.Parameter, value: str) -> str:
    if not _CUSTOMER.fullmatch(value):
        raise click.BadParameter("must be the id of a Stripe customer (cus_…)")
    return value


@cli.command()
@click.option("--customer", required=True, callback=_customer, help="the Stripe customer, cus_…")
@click.option("--apply", "applies", is_flag=True, help="erase; without it only counted")
@click.option("--note", callback=note, help="why; kept in the audit log")
@click.option("--actor", default="cli", show_default=True, help="who the audit log names")
@click.option("--json", "as_json", is_flag=True)
@with_app
@refusals_told
def forget(app: Flask, customer: str, applies: bool, note: str | None, actor: str, as_json: bool) -> None:
    """Erase names, addresses, card details and all other personal data of a customer from stored events.

    Ids, states, times and amounts stay: events are still recognised, and dead letters can be replayed. Without --apply
    nothing is written. It may be repeated, and goes on where it was killed. First delete the customer at Stripe: what
    comes from there later is stored again. Exit codes: 0 done, 1 the database does not answer, 2 wrong use.
    """
    from ..webhooks import erasure

    answer = _erased(app, customer, note, actor) if applies else erasure.find_holdings(customer).facts(erased=False)
    say(as_json, _document(answer), _words(answer))


def _erased(app: Flask, customer: str, note: str | None, actor: str) -> dict[str, Any]:
    from ..operations import Asked, Outcome, Running, perform
    from ..webhooks import erasure

    clock = app.extensions["billing"].clock
    whose = erasure.find_holdings(customer).organizations
    asked = Asked("forget", customer, whose[0] if whose else None, actor, "cli", "cli forget", {}, note=note)

    def tell(count: int) -> None:
        if sys.stderr.isatty():
            click.echo(f"\r{count} events", nl=False, err=True)

    def work(running: Running) -> Outcome:
        found = erasure.erase(customer, now=clock(), progress=tell)
        running.tell(events=found.events, dead_letters=found.dead_letters)
        return erasure.outcome(found, erased=True)

    return perform(asked, clock, work)[0].answer


def _document(answer: dict[str, Any]) -> dict[str, Any]:
    return {
        "customer": answer["customer"],
        "orgIds": [str(each) for each in answer["org_ids"]],
        "events": answer["events"],
        "deadLetters": answer["dead_letters"],
        "notes": answer["notes"],
        "erased": answer["erased"],
    }


def _words(answer: dict[str, Any]) -> str:
    done = "erased from" if answer["erased"] else "would be erased from"
    lines = [f"{answer['customer']}: {done} {answer['events']} events, {answer['dead_letters']} of them dead letters"]
    if answer["notes"]:
        whose = ", ".join(str(each) for each in answer["org_ids"])
        lines.append(
            f"left: {answer['notes']} notes of admins about {whose}; they are free text, look at them yourself"
        )
    return "\n".join(plain(line) for line in lines)
