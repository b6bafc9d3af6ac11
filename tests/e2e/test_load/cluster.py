"""An installation on several machines, as far as one can show it: three mongods, two of this and three of that."""

import os
import signal
import time
from dataclasses import dataclass

import pymongo

from billing_service.sandbox import servers
from billing_service.sandbox.dev_child import Child
from tests.e2e.test_load.installation import Installation, Part, keep_oplog

NODES = ("mongod-1", "mongod-2", "mongod-3")


@dataclass
class Stopped:
    """A process that is there and does nothing, as on a machine that hangs; its connections stay open."""

    pid: int

    def start(self) -> None:
        os.kill(self.pid, signal.SIGCONT)


@dataclass
class Cluster(Installation):
    """`election_seconds` is how long the nodes wait for a primary that is silent; MongoDB's default is ten."""

    election_seconds: float = 10.0
    webs = ("web-1", "web-2")
    workers = ("worker-1", "worker-2", "worker-3")
    schedulers = ("scheduler-1", "scheduler-2")
    stores = (*NODES, "redis")

    def _start_mongodb(self) -> dict[str, Part]:
        self.nodes = {name: servers.free_port() for name in NODES}
        parts = {name: Part(self._node(name, port)) for name, port in self.nodes.items()}
        for part in parts.values():
            part.child.start()
        for part in parts.values():
            self.stack.callback(part.child.kill)
            part.child.wait_ready()
        members = [{"_id": place, "host": f"{servers.HOST}:{port}"} for place, port in enumerate(self.nodes.values())]
        settings = {"electionTimeoutMillis": int(self.election_seconds * 1000), "heartbeatIntervalMillis": 500}
        with pymongo.MongoClient(servers.HOST, self.nodes[NODES[0]], directConnection=True) as client:
            client.admin.command(
                "replSetInitiate", {"_id": servers.REPLICA_SET, "members": members, "settings": settings}
            )
        for part, port in zip(parts.values(), self.nodes.values(), strict=True):
            part.child.is_ready = lambda port=port: state_of(port) in ("PRIMARY", "SECONDARY")
            part.child.wait_ready()
            keep_oplog(port)
        hosts = ",".join(member["host"] for member in members)
        self.uri = f"mongodb://{hosts}/{servers.DATABASE}?replicaSet={servers.REPLICA_SET}"
        self._wait_for_primary()
        return parts

    def _node(self, name: str, port: int) -> Child:
        child = servers.mongod_child(self.folder / name, port, self.folder / f"{name}.log")
        child.is_ready = lambda: servers.is_listening(port)
        return child

    def _wait_for_primary(self) -> str:
        deadline = time.monotonic() + 60
        while not (found := [name for name, port in self.nodes.items() if state_of(port) == "PRIMARY"]):
            assert time.monotonic() < deadline, {name: state_of(port) for name, port in self.nodes.items()}
            time.sleep(0.05)
        return found[0]

    def kill(self, kind: str):
        """As everywhere; `primary` and `secondary` are who is that now, and `:stopped` hangs instead of dying."""
        role, _, how = kind.partition(":")
        if role not in ("primary", "secondary"):
            return super().kill(kind)
        primary = self._wait_for_primary()
        name = primary if role == "primary" else self.dice.choice([each for each in NODES if each != primary])
        self.killed[kind] += 1
        if how == "stopped":
            stopped = Stopped(self.parts[name].child.pid)
            os.kill(stopped.pid, signal.SIGSTOP)
            return stopped
        self.parts[name].kill()
        return self.parts[name]


def state_of(port: int) -> str | None:
    """What a node of the set says that it is; None if it says nothing in time."""
    if not servers.is_listening(port):
        return None
    try:
        with pymongo.MongoClient(
            servers.HOST, port, directConnection=True, serverSelectionTimeoutMS=500, socketTimeoutMS=500
        ) as client:
            state = client.admin.command("replSetGetStatus")["myState"]
            return {1: "PRIMARY", 2: "SECONDARY"}.get(state, "OTHER")
    except pymongo.errors.PyMongoError:
        return None
