"""A receiver of webhooks on a port of its own: it remembers what arrived and answers as it is told."""

import contextlib
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Inbox:
    """What arrived, each as (headers, body), and how the next requests are answered."""

    status: int = 204
    answers: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    endless: bool = False
    arrived: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    open: threading.Event = field(default_factory=threading.Event)
    server: Any = None
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/signals/secret-path"

    @property
    def bodies(self) -> list[bytes]:
        return [body for _, body in self.arrived]

    def up(self) -> None:
        """Listen, on the port that it had before."""
        self.server = Server(("127.0.0.1", self.port), handler_of(self))
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def down(self) -> None:
        """Refuse connections."""
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()
            self.server = None


class Server(ThreadingHTTPServer):
    block_on_close = False
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Senders that hang up are part of the tests."""


def handler_of(inbox: Inbox) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            inbox.arrived.append((dict(self.headers), body))
            inbox.open.wait(inbox.delay)
            self.send_response(inbox.answers.pop(0) if inbox.answers else inbox.status)
            for name, value in inbox.headers.items():
                self.send_header(name, value)
            self.end_headers()
            deadline = time.monotonic() + 30
            with contextlib.suppress(OSError):
                while inbox.endless and time.monotonic() < deadline:
                    self.wfile.write(b"x" * 65_536)

        def log_message(self, *args: Any) -> None:
            """Silent."""

    return Handler
