"""docs/runbooks/replay-a-day.md: its commands, in its order, beside a worker process."""

import re
from datetime import timedelta
from pathlib import Path

from billing_service.documents import WebhookEvent

from .test_dead_letters_runbook import shell, worker

__all__ = ["shell", "worker"]

RUNBOOK = Path(__file__).parents[3] / "docs" / "runbooks" / "replay-a-day.md"


def test_its_commands_work(worker, shell, lost, runtime):
    made = lost(3)
    day = timedelta(days=1)
    given = {
        "FROM": f"{runtime.clock() - day:%Y-%m-%dT%H:%M:%SZ}",
        "TO": f"{runtime.clock() + day:%Y-%m-%dT%H:%M:%SZ}",
        "COUNT": "3",
        "EVENT": made[0][1],
        "RECONCILE_CONFIRM_SECONDS": "1",
    }
    scripts = re.findall(r"^ *```sh\n(.*?)```", RUNBOOK.read_text(), re.DOTALL | re.MULTILINE)
    assert len(scripts) == 6
    answers = []
    for script in scripts:
        done = shell(script, given)
        assert done.returncode == 0, (script, done.stdout, done.stderr)
        answers.append(done.stdout)
    assert "3 events would be replayed" in answers[2]
    assert "3 of 3 (3 succeeded)" in answers[3]
    assert answers[5].startswith("0 events would be replayed")
    assert [it.plan for it, _ in made] == ["pro"] * 3
    assert [each.source for each in WebhookEvent.objects(event_id=given["EVENT"]).first().history] == ["replay"] * 2
