"""MongoDB and Redis: whether they answer, and whether they are what the service relies on."""

from collections.abc import Iterator, Sequence

from pymongo.errors import PyMongoError
from redis.exceptions import RedisError

from ..documents import (
    DOCUMENTS,
    RETIRED_INDEXES,
    compare_indexes,
    default_write_concern,
    denial_of,
    ping,
    server_version,
)
from ..runtime import Runtime
from .findings import Seen, fine

OLDEST_MONGODB = (6, 0)
OLDEST_REDIS = (5, 0)
ENOUGH_NODES = 3


def look_at_mongodb(site: Runtime) -> Iterator[Seen]:
    """Its version, transactions and write concern, as the start checks them, and how many nodes there are."""
    try:
        hello, version, concern = ping(), server_version(), default_write_concern()
    except PyMongoError as error:
        said = (
            f"denies access ({denial})" if (denial := denial_of(error)) else f"does not answer ({type(error).__name__})"
        )
        yield Seen("mongodb_unreachable", f"MongoDB {said}.")
        return
    yield _version("MongoDB", "mongodb_version", version, OLDEST_MONGODB)
    sharded = hello.get("msg") == "isdbgrid"
    if "setName" not in hello and not sharded:
        yield Seen("mongodb_no_transactions", "MongoDB is not a replica set.")
    if concern is not None and concern != "majority":
        yield Seen("mongodb_write_concern", f"The default write concern is {concern!r}, not majority.")
    if site.settings.livemode and not sharded and len(hello.get("hosts", ())) < ENOUGH_NODES:
        yield Seen("mongodb_single_node", f"The replica set has {len(hello.get('hosts', ()))} node(s) with data.")


def look_at_indexes(site: Runtime) -> Iterator[Seen]:
    """The indexes that exist beside those that are declared."""
    differs = compare_indexes(DOCUMENTS, RETIRED_INDEXES)
    for code, names in (
        ("index_missing", differs.missing),
        ("index_differs", differs.different),
        ("index_retired", differs.retired),
    ):
        if names:
            yield Seen(code, ", ".join(names))
    if not (differs.missing or differs.different):
        yield fine("All indexes are there as declared.")


def look_at_redis(site: Runtime) -> Iterator[Seen]:
    """Its version, that it keeps what it is given, and that it takes it."""
    try:
        told = site.redis.client().info()
    except RedisError as error:
        yield Seen("redis_unreachable", f"Redis does not answer ({type(error).__name__}).")
        return
    yield _version("Redis", "redis_version", _numbers(str(told.get("redis_version", "0"))), OLDEST_REDIS)
    policy = told.get("maxmemory_policy")
    if policy not in (None, "noeviction"):
        yield Seen("redis_evicts", f"maxmemory-policy is {policy}.")
    if told.get("role") == "slave":
        yield Seen("redis_read_only", "Redis is a replica.")
    if not told.get("aof_enabled"):
        yield Seen("redis_not_persistent", "appendonly is off.")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:3] if part.isdigit())


def _version(name: str, code: str, version: Sequence[int], oldest: Sequence[int]) -> Seen:
    words = f"{name} {'.'.join(map(str, version))}"
    if tuple(version) < tuple(oldest):
        return Seen(code, f"{words} is older than {'.'.join(map(str, oldest))}.")
    return fine(f"{words} answers.")
