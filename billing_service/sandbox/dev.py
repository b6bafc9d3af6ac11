"""`billing-service dev`: the whole system on one machine, from nothing to a printed console address.

The order of the steps is here; how a child is started, watched and stopped is in supervisor.py.
"""

import contextlib
import errno
import secrets
import sys
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from billing_service.sandbox import dev_catalogue, dev_endpoint, dev_given, dev_keeper, dev_processes, servers
from billing_service.sandbox.demo import ORGANIZATIONS
from billing_service.sandbox.dev_child import CannotStart, Child
from billing_service.sandbox.dev_folder import DataFolder, write_privately
from billing_service.sandbox.stripe import DEFAULT_KEY
from billing_service.sandbox.supervisor import Interrupted, Supervisor

PARTS = ("web", "worker", "scheduler", "mongod", "redis", "stripe")
# What a stopped predecessor's last process may still need to let go of a port.
PORT_PATIENCE_SECONDS = 3.0
LOW_BYTES = 200_000_000
# What a command needs to be told to work on this system.
TOLD = (
    "MONGODB_URI",
    "REDIS_URL",
    "STRIPE_SECRET_KEY",
    "STRIPE_API_BASE",
    "STRIPE_WEBHOOK_SECRETS",
    "STRIPE_REQUESTS_PER_SECOND",
    "PUBLIC_URL",
    "BILLING_PLANS",
    "JWT_SECRET_KEY",
    "JWT_PUBLIC_KEY",
    "JWT_JWKS_URL",
    "JWT_ISSUER",
    "JWT_AUDIENCE",
)


def run(port: int, data_dir: Path, demo: bool, ready_file: Path | None, environ: Mapping[str, str]) -> int:
    """Start everything and keep it running; returns the exit code, 0 only if it was told to stop."""
    folder = DataFolder(data_dir)
    try:
        given = dev_given.read(environ)
        folder.open()
        port = _web_port(port)
        folder.say_who(f"http://{servers.HOST}:{port}")
        dev_given.check(given)
    except (CannotStart, OSError) as trouble:
        _complain(trouble, folder.path)
        folder.close()
        return 1
    development = Development(port, folder, demo, ready_file, given, environ)
    try:
        return dev_keeper.in_front(development.run)
    finally:
        development.remove_ready_file()


def _web_port(port: int) -> int:
    if port == 0:
        return servers.free_port()
    if _becomes_free(port):
        return port
    raise CannotStart(f"Port {port} is taken by another program: stop it, or choose another port with --port.")


def _becomes_free(port: int) -> bool:
    deadline = time.monotonic() + PORT_PATIENCE_SECONDS
    while not servers.is_free(port):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def _complain(error: CannotStart | OSError, folder: Path) -> None:
    trouble = error if isinstance(error, CannotStart) else _in_words(error, folder)
    print(f"billing-service: {trouble}", file=sys.stderr)
    if trouble.log_tail:
        print("The end of its log:", file=sys.stderr)
        print("\n".join("  | " + line for line in trouble.log_tail.splitlines()), file=sys.stderr)
    sys.stderr.flush()


def _in_words(error: OSError, folder: Path) -> CannotStart:
    if error.errno == errno.ENOSPC:
        return CannotStart(f"The disk of {folder} is full.")
    return CannotStart(f"{error.strerror}: {error.filename or folder}.")


class Development:
    """One run: the parts that are ours, what they are told, and the words for the person who started it."""

    def __init__(
        self,
        port: int,
        folder: DataFolder,
        demo: bool,
        ready_file: Path | None,
        given: dev_given.Given,
        environ: Mapping[str, str],
    ):
        self.url = f"http://{servers.HOST}:{port}"
        self.port = port
        self.folder = folder
        self.demo = demo and not given.stripe_secret_key
        self.ready_file = ready_file.absolute() if ready_file else None
        self.given = given
        self.env = dict(environ) | {"PYTHONUNBUFFERED": "1"}
        self.supervisor = Supervisor(self.say)
        self.children: dict[str, Child] = {}
        self.ports: dict[str, int] = {}
        self.admin_token: str | None = None
        self.started = time.monotonic()
        self.is_up = False
        self.is_low = False

    def run(self) -> int:
        """The supervisor's process, from its first breath to its last; returns the exit code."""
        code = 0
        try:
            self.supervisor.take_signals()
            try:
                self._start()
                self.supervisor.watch(changed=self._write_ready_file, look_around=self._warn_of_a_full_disk)
            except (CannotStart, OSError) as trouble:
                code = 1
                _complain(trouble, self.folder.path)
            finally:
                self._stop()
        except Interrupted:
            pass
        return code

    def _start(self) -> None:
        self.remove_ready_file()
        self.say(f"starting, with the data in {self.folder.path}")
        self._start_servers()
        self._point_at_stripe()
        self._prepare()
        self._start_processes()
        if not self.given.has_foreign_tokens:
            self.admin_token = dev_processes.admin_token(self.env)
        if self.demo:
            self._load_demo_data()
        self._write_ready_file()
        self.folder.write_environment({name: self.env[name] for name in TOLD if name in self.env})
        self._announce()

    def _start_servers(self) -> None:
        ours = []
        if not self.given.mongodb_uri:
            ours.append(self._server("mongod", "mongodb", servers.mongod_child))
            self.env["MONGODB_URI"] = servers.mongodb_uri(self.ports["mongod"])
        if not self.given.redis_url:
            ours.append(self._server("redis", "redis", servers.redis_child))
            self.env["REDIS_URL"] = f"redis://{servers.HOST}:{self.ports['redis']}/0"
        if not self.given.stripe_secret_key:
            ours.append(self._server("stripe", "stripe", servers.stripe_child))
            self.env["STRIPE_API_BASE"] = f"http://{servers.HOST}:{self.ports['stripe']}"
        if self.given.mongodb_uri:
            self.say("MongoDB is yours (MONGODB_URI)" + (", the demo data go there too" if self.demo else ""))
        if self.given.redis_url:
            self.say("Redis is yours (REDIS_URL)")
        self.supervisor.start(*ours)

    def _server(self, name: str, folder: str, describe: Callable[..., Child]) -> Child:
        self.ports[name] = self._kept_port(name)
        self.children[name] = describe(self.folder.path / folder, self.ports[name], self._log(name), self.env)
        return self.children[name]

    def _kept_port(self, name: str) -> int:
        port = self.folder.kept(f"{name}_port", servers.free_port)
        if not _becomes_free(port):
            self.say(f"port {port} of {name} is taken by another program, so {name} moves to another")
            port = servers.free_port()
            self.folder.keep(f"{name}_port", port)
        return port

    def _point_at_stripe(self) -> None:
        if self.given.stripe_api_base:
            self.env["STRIPE_API_BASE"] = self.given.stripe_api_base
            self.say("Stripe is yours (STRIPE_SECRET_KEY): no demo data, and no webhook endpoint is made there")
            return
        self.env["STRIPE_SECRET_KEY"] = DEFAULT_KEY
        # The sandbox is nobody else's: the careful default of a test key would only make the start slow.
        if not self.env.get("STRIPE_REQUESTS_PER_SECOND", "").strip():
            self.env["STRIPE_REQUESTS_PER_SECOND"] = "100"
        dev_catalogue.offer(self.env["STRIPE_API_BASE"], DEFAULT_KEY)
        self.env.setdefault("PUBLIC_URL", self.url)
        self.env["STRIPE_WEBHOOK_SECRETS"] = dev_endpoint.webhook_secret(
            self.folder, self.env["STRIPE_API_BASE"], DEFAULT_KEY, f"{self.url}/api/billing/webhook"
        )

    def _prepare(self) -> None:
        if not (self.given.has_foreign_tokens or self.env.get("JWT_SECRET_KEY", "").strip()):
            self.env["JWT_SECRET_KEY"] = self.folder.kept("jwt_secret_key", lambda: secrets.token_urlsafe(48))
        self.supervisor.run_once(dev_processes.indexes(self._log("indexes"), self.env))
        self.say("the indexes are there")

    def _start_processes(self) -> None:
        self.children["web"] = dev_processes.web(self._log("web"), self.env, self.port)
        self.children["worker"] = dev_processes.worker(self._log("worker"), self.env)
        self.children["scheduler"] = dev_processes.scheduler(self._log("scheduler"), self.env)
        self.supervisor.start(*(self.children[name] for name in ("web", "worker", "scheduler")))

    def _load_demo_data(self) -> None:
        demo_data = dev_processes.demo_data(self._log("demo"), self.env, self.url, self.admin_token)
        self.supervisor.run_once(demo_data)
        self.say("the demo data are there")

    def _log(self, name: str) -> Path:
        return self.folder.logs / f"{name}.log"

    def _write_ready_file(self) -> None:
        if not self.ready_file:
            return
        pids = {name: child.pid for name, child in self.children.items()}
        content = {
            "url": self.url,
            "consoleUrl": f"{self.url}/console",
            "adminToken": self.admin_token,
            "mongodbUri": self.env["MONGODB_URI"],
            "redisUrl": self.env["REDIS_URL"],
            "stripeApiBase": self.env["STRIPE_API_BASE"],
            "stripeSecretKey": self.env["STRIPE_SECRET_KEY"],
            "webhookSecret": self.env["STRIPE_WEBHOOK_SECRETS"].split(",")[0],
            "pids": {name: pids.get(name) for name in PARTS},
        }
        self.ready_file.parent.mkdir(parents=True, exist_ok=True)
        write_privately(self.ready_file, content)

    def remove_ready_file(self) -> None:
        if self.ready_file:
            self.ready_file.unlink(missing_ok=True)

    def _announce(self) -> None:
        lines = [
            f"billing_service is up after {time.monotonic() - self.started:.1f} s.",
            "",
            f"  Console      {self.url}/console",
            f"  API          {self.url}/api/docs",
            f"  Admin token  {self.admin_token or 'your own issuer makes them'}",
            f"  Logs         {self.folder.logs}",
            f"  Commands     . {self.folder.environment}; billing-service doctor",
            "  Stop         Ctrl-C",
            *(_examples() if self.demo else ()),
            "",
        ]
        self.is_up = True
        self._print("\n" + "\n".join(lines))

    def _warn_of_a_full_disk(self) -> None:
        is_low = self.folder.free_bytes() < LOW_BYTES
        if is_low and not self.is_low:
            self.say(f"the disk of {self.folder.path} is nearly full: free some, or the servers will stop")
        self.is_low = is_low

    def _stop(self) -> None:
        self.remove_ready_file()
        if self.children:
            self.say("stopping")
        self.supervisor.stop()
        self.say("everything is stopped")

    def say(self, text: str) -> None:
        """A line of progress: seconds while it starts, the time of day afterwards."""
        when = f"{datetime.now():%H:%M:%S}" if self.is_up else f"{time.monotonic() - self.started:6.1f} s"
        self._print(f"{when}  {text}")

    def _print(self, text: str) -> None:
        # Whoever read our output may be gone; that is no reason to stop.
        with contextlib.suppress(OSError):
            print(text, flush=True)


def _examples() -> list[str]:
    """An organization of the demo for each verdict, to look at in the console."""
    first = {each.verdict: each for each in reversed(ORGANIZATIONS)}
    return ["", "  Demo data", *(f"    {each.id}  {each.verdict:<26} {each.name}" for each in first.values())]
