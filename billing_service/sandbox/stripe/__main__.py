"""Runs the sandbox until it is told to stop."""

from __future__ import annotations

import argparse
import json
import os
import signal
import threading

from .sandbox import Sandbox
from .server import Server


def main():
    parser = argparse.ArgumentParser(prog="python -m billing_service.sandbox.stripe", description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="0 takes a free one")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--data", help="a file that keeps the state")
    parser.add_argument("--ready-fd", type=int, help="a file descriptor to write the address to as well")
    asked = parser.parse_args()
    sandbox = Sandbox(asked.data)
    server = Server((asked.host, asked.port), sandbox.answer, sandbox.clock.exact)
    sandbox.start()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: threading.Thread(target=server.shutdown, daemon=True).start())
    announce(server, asked.ready_fd)
    server.serve_forever(poll_interval=0.1)
    server.stopping.set()
    sandbox.stop()
    server.server_close()
    # Held answers and deliveries under way have threads of their own; nothing of theirs is worth waiting for.
    os._exit(0)


def announce(server, ready_fd):
    line = json.dumps({"url": server.url, "port": server.server_address[1], "pid": os.getpid()})
    print(line, flush=True)
    if ready_fd is not None:
        with os.fdopen(ready_fd, "w") as pipe:
            pipe.write(line + "\n")


if __name__ == "__main__":
    main()
