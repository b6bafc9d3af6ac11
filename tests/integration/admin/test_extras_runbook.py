"""docs/runbooks/extras.md: its commands, in its order, against a web process as operators run it."""

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from billing_service import extras
from billing_service.documents import LedgerEntry, WebhookEvent
from billing_service.jobs.dispatch import desk
from billing_service.webhooks import handle_due
from tests.integration.admin.test_dispute_runbook import address  # noqa: F401  (a fixture)

RUNBOOK = Path(__file__).parents[3] / "docs" / "runbooks" / "extras.md"
SHIM = '#!/bin/sh\nexec "{python}" -m billing_service.cli "$@"\n'


@pytest.fixture
def shell(environment, tmp_path):
    """Runs a script of the runbook, in which `billing-service` is this installation's; returns what it prints."""
    program = tmp_path / "billing-service"
    program.write_text(SHIM.format(python=sys.executable))
    program.chmod(0o755)

    def run(script, given, **changes):
        path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            env=os.environ | environment | path | given | changes,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, (script, done.stdout, done.stderr)
        return done.stdout

    return run


@pytest.fixture
def corrected(app, runtime, tmp_path):
    """The plan file with the pack that was missing."""
    text = runtime.settings.billing_plans.read_text()
    file = tmp_path / "plans.toml"
    pack = 'id = "pack_1m"\nunits = 1_000_000\nprice = "price_1m"\namount = 4900\ncurrency = "usd"\n'
    file.write_text(f"{text}\n[[packs]]\n{pack}expires_after_days = 9\n")
    return file


@contextlib.contextmanager
def working(app, plans_corrected):
    """A worker that was started anew."""
    over = threading.Event()

    def work():
        with app.app_context():
            while not over.wait(0.2):
                handle_due(plans_corrected, stop=over.is_set)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def refused(runtime, billed, stripe, sandbox, recorded):
    """An organization whose pack the plan file did not have, with the dead letter of that."""
    it = billed("pro")
    metadata = {"organizationId": str(it.org_id), "kind": "extras", "packId": "pack_1m"}
    product = stripe.products.create({"name": "Pack"}).id
    price = stripe.prices.create({"product": product, "currency": "usd", "unit_amount": 4900}).id
    wanted = {"mode": "payment", "success_url": "https://example.org/thanks", "customer": it.customer}
    session = stripe.checkout.sessions.create(
        wanted | {"line_items": [{"price": price, "quantity": 1}], "metadata": metadata}
    ).id
    sandbox.complete_checkout(session)
    event = next(each for each in stripe.events.list({"limit": 50}).data if each.type == "checkout.session.completed")
    now = runtime.clock()
    recorded(
        event_id=event.id,
        type=event.type,
        payload=json.dumps(event.to_dict()),
        created=now,
        received_at=now - timedelta(minutes=1),
        state="received",
        organization=it.org_id,
        livemode=False,
    )
    handle_due(desk(), stop=lambda: False)
    assert WebhookEvent.objects.get(event_id=event.id).reason == "pack_unknown"
    return it, event.id


def test_its_commands_work(app, address, admin, billed, stripe, sandbox, runtime, recorded, shell, corrected):  # noqa: F811
    it, event_id = refused(runtime, billed, stripe, sandbox, recorded)
    given = {"BASE": address, "TOKEN": admin["Authorization"].split()[1], "ORG": str(it.org_id), "EVENT_ID": event_id}
    timeline, dead, replay = re.findall(r"^ *```sh\n(.*?)```", RUNBOOK.read_text(), re.DOTALL | re.MULTILINE)
    assert json.loads(shell(timeline, given))["items"] == []
    assert [each["eventId"] for each in json.loads(shell(dead, given))["items"]] == [event_id]
    with working(app, replace(desk(), plans=type(runtime.plans).load(corrected))):
        told = shell(replay, given, BILLING_PLANS=str(corrected))
    assert "extras" in told
    assert "1000000" in told.replace(",", "")
    assert extras.balance_of(it.org_id) == 1_000_000
    [item] = json.loads(shell(timeline, given))["items"]
    assert item["extras"]["ref"] == LedgerEntry.objects.get().ref
