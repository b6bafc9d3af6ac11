"""The socket side: HTTP/1.1 with keep-alive, one thread per connection, and answers that are late or never come."""

from __future__ import annotations

import socket
import threading
from dataclasses import dataclass, field
from email.utils import formatdate
from http.client import responses
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LARGEST_BODY = 4 * 1024 * 1024


@dataclass
class Request:
    method: str
    path: str
    query: str
    headers: object
    body: bytes


@dataclass
class Answer:
    """`drop`: close the connection instead of answering, after `hold` seconds."""

    status: int
    body: bytes
    headers: dict = field(default_factory=dict)
    drop: bool = False
    hold: float = 0


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 120

    def exchange(self):
        length = int(self.headers.get("Content-Length") or 0)
        if length > LARGEST_BODY:
            self.close_connection = True
            return self.write(Answer(413, b'{"error": {"message": "Request too large", "type": "api_error"}}'))
        path, _, query = self.path.partition("?")
        request = Request(self.command, path, query, self.headers, self.rfile.read(length))
        answer = self.server.answer(request)
        if answer.hold:
            self.server.stopping.wait(answer.hold)
        if answer.drop:
            return self.hang_up()
        self.write(answer)

    do_GET = do_POST = do_DELETE = do_PUT = do_PATCH = do_HEAD = do_OPTIONS = exchange

    def write(self, answer: Answer):
        headers = {
            "Date": formatdate(self.server.date(), usegmt=True),
            "Content-Type": "application/json",
            "Content-Length": str(len(answer.body)),
            "Connection": "close" if self.close_connection else "keep-alive",
            **answer.headers,
        }
        head = f"HTTP/1.1 {answer.status} {responses.get(answer.status, '')}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in headers.items()) + "\r\n"
        body = b"" if self.command == "HEAD" else answer.body
        self.wfile.write(head.encode() + body)

    def hang_up(self):
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_):
        """The request log of the control plane is the only one."""

    def handle(self):
        try:
            super().handle()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def finish(self):
        try:
            super().finish()
        except OSError:
            self.close_connection = True


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, address, answer, date):
        self.host = address[0]
        self.answer = answer
        self.date = date
        self.stopping = threading.Event()
        super().__init__(address, Handler)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.server_port}"
