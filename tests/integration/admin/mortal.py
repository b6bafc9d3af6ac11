"""Answers requests, carries out jobs or commands, each in a child of its own that kills itself (SIGKILL) at the n-th
write to MongoDB, before it is sent or after it was answered. Orders come in as lines of JSON, what became of them goes
out the same way.
"""

import contextlib
import json
import os
import pkgutil
import signal
import sys

from pymongo import monitoring

WRITES = frozenset({"insert", "update", "findAndModify", "delete", "commitTransaction"})


class Death(monitoring.CommandListener):
    """Comes at the n-th write; without an n it only counts."""

    def __init__(self):
        self.count, self.at, self.after = 0, None, False

    def started(self, event):
        if event.command_name in WRITES:
            self.count += 1
            self._come(self.after is False)

    def succeeded(self, event):
        if event.command_name in WRITES:
            self._come(self.after)

    def failed(self, event):
        pass

    def _come(self, now):
        if now and self.count == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


def live(app, death, order):
    """What the child does until it dies."""
    death.at, death.after = order["at"], order["after"]
    if "command" in order:
        carry_out(order["command"])
    if "job" in order:
        with app.app_context():
            tell(answer=pkgutil.resolve_name(order["job"])())
        os._exit(0)
    answer = app.test_client().open(
        order["path"], method=order["method"], headers=order["headers"], json=order.get("body")
    )
    tell(status=answer.status_code, answer=answer.json)
    os._exit(0)


def carry_out(command):
    """A command of the command line, whose own output is not ours."""
    from billing_service.cli import cli

    with contextlib.redirect_stdout(sys.stderr):
        try:
            code = cli.main(command, standalone_mode=False)
        except SystemExit as ended:
            code = ended.code
    tell(code=code or 0)
    os._exit(0)


def tell(**facts):
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def main():
    death = Death()
    monitoring.register(death)
    from billing_service import create_app, observability

    observability.configure("INFO", sys.stderr)
    app = create_app()
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            live(app, death, json.loads(line))
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            tell(killed=os.WTERMSIG(status))


if __name__ == "__main__":
    main()
