"""The connection to MongoDB, transactions and indexes."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import mongoengine
import pymongo
from bson import ObjectId
from mongoengine.connection import get_connection, get_db
from mongoengine.errors import OperationError
from pymongo.errors import (
    AutoReconnect,
    ConfigurationError,
    ConnectionFailure,
    ExecutionTimeout,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
    WTimeoutError,
)
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from ..settings import UnsafeConfiguration

Result = TypeVar("Result")

STORE_ERRORS: tuple[type[Exception], ...] = (
    AutoReconnect,
    ConnectionFailure,
    ExecutionTimeout,
    NetworkTimeout,
    NotPrimaryError,
    ServerSelectionTimeoutError,
    WTimeoutError,
    WaitQueueTimeoutError,
)

# Unauthorized, AuthenticationFailed, and what hosted MongoDB says instead.
DENIALS = (13, 18, 8000)

MAJORITY = WriteConcern(w="majority", j=True, wtimeout=10_000)


# Partial filters that the planner recognises in a query: `$type` is only implied by an equal `$type`, so an index
# filtered by it would never be used. A query on a time must name the bound itself (`field__gt=EPOCH`).
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
IS_TEXT = {"$gt": ""}
IS_TIME = {"$gt": EPOCH}
IS_ID = {"$gt": ObjectId("0" * 24)}


def connect(uri: str) -> None:
    """Describe the connection; nothing is opened before the first operation (RQ forks). Raises UnsafeConfiguration.

    No write concern is set here: with a bound session PyMongo 4.20 would send it inside transactions too, which
    MongoDB refuses. The server's default is majority since MongoDB 5 (start checks it), transactions and the
    ledger's insert name it themselves.
    """
    mongoengine.disconnect_all()
    try:
        mongoengine.connect(
            host=uri,
            connect=False,
            tz_aware=True,
            tzinfo=UTC,
            uuidRepresentation="standard",
            appname="billing_service",
            serverSelectionTimeoutMS=3_000,
            connectTimeoutMS=3_000,
            socketTimeoutMS=20_000,
            retryWrites=True,
        )
    except (ConfigurationError, ValueError) as error:
        # The driver's words may quote a password that is not percent-encoded.
        words = f"MONGODB_URI: the driver cannot read it ({type(error).__name__}); percent-encode user and password"
        raise UnsafeConfiguration([words]) from None


def patient_for(seconds: float) -> AbstractContextManager[None]:
    """In the block all that is asked of MongoDB together may take so long, a hanging server too."""
    return pymongo.timeout(seconds)


def ping() -> dict[str, Any]:
    """Ask the server who it is: the answer of `hello`, with `setName` when transactions are possible."""
    return get_db().command("hello")


def server_version() -> tuple[int, ...]:
    """MongoDB's version, as numbers."""
    return tuple(get_db().command("buildInfo")["versionArray"][:3])


def default_write_concern() -> str | int | None:
    """The `w` of the cluster's default write concern, None when it may not be read."""
    try:
        answer = get_connection().admin.command("getDefaultRWConcern")
    except OperationFailure:
        return None
    return answer.get("defaultWriteConcern", {}).get("w")


def denial_of(error: Exception) -> str | None:
    """MongoDB's name for it when it denies us access: a wrong password, a user without rights; else None."""
    failure = error if isinstance(error, OperationFailure) else driver_error(error)
    if not isinstance(failure, OperationFailure) or failure.code not in DENIALS:
        return None
    return str((failure.details or {}).get("codeName", "AccessDenied"))


def database_now() -> datetime:
    """The database's clock; leases of all processes are measured by it."""
    return get_db().command("hello")["localTime"].replace(tzinfo=UTC)


def driver_error(error: Exception) -> PyMongoError | None:
    """The driver's error behind MongoEngine's, which is raised while the former is handled, not from it."""
    hidden = error.__cause__ or error.__context__
    return hidden if isinstance(hidden, PyMongoError) else None


def in_transaction(work: Callable[[], Result]) -> Result:
    """Run `work` so that all its writes happen or none; it may run several times.

    MongoEngine hides the driver's error, and with it the label that asks for another try, inside its own
    OperationError: the cause is raised instead.
    """

    with get_connection().start_session() as session:

        def attempt(bound: Any) -> Result:
            with bound.bind(end_session=False):
                try:
                    return work()
                except OperationError as error:
                    raise driver_error(error) or error from error

        return session.with_transaction(
            attempt,
            read_concern=ReadConcern("snapshot"),
            write_concern=MAJORITY,
            max_commit_time_ms=10_000,
        )


class IndexRefused(Exception):
    """An index cannot be made: another one has its name, or what is stored is not unique."""

    def __init__(self, collection: str, error: OperationFailure):
        # What follows "dup key" is what is stored.
        told = str((error.details or {}).get("errmsg", error)).partition(" dup key")[0]
        super().__init__(
            f"index_refused: {collection}: {told}. If an index of another kind has the name, drop it "
            f"(db.{collection}.dropIndex) and run this again; if rows are there twice, remove one of them first."
        )


def drop_indexes(retired: Iterable[tuple[str, str]]) -> None:
    """Drop indexes, each a collection and a name, where they still are."""
    for collection, name in retired:
        if name in get_db()[collection].index_information():
            get_db()[collection].drop_index(name)


@dataclass(frozen=True)
class IndexDifference:
    """Indexes that are not as declared, each as `collection.index`; `retired` are there and should not be."""

    missing: tuple[str, ...]
    different: tuple[str, ...]
    retired: tuple[str, ...]


def compare_indexes(
    documents: Iterable[type[mongoengine.Document]], retired: Iterable[tuple[str, str]]
) -> IndexDifference:
    """How the indexes that exist differ from the declared ones; writes nothing. What others added is theirs."""
    documents = tuple(documents)
    found = {each._get_collection_name(): each._get_collection().index_information() for each in documents}
    missing, different = [], []
    for document in documents:
        collection = document._get_collection_name()
        for spec in document._meta["index_specs"]:
            there = found[collection].get(spec["name"])
            if there is None:
                missing.append(f"{collection}.{spec['name']}")
            elif not _is_as_declared(spec, there):
                different.append(f"{collection}.{spec['name']}")
    still = [f"{collection}.{name}" for collection, name in retired if name in found.get(collection, {})]
    return IndexDifference(tuple(missing), tuple(different), tuple(still))


def _is_as_declared(spec: dict[str, Any], there: dict[str, Any]) -> bool:
    options = ("partialFilterExpression", "expireAfterSeconds")
    flags = ("unique", "sparse")
    # The server fills in what the declaration leaves out of a collation.
    collation = dict(there.get("collation") or {})
    return (
        [tuple(each) for each in there["key"]] == [tuple(each) for each in spec["fields"]]
        and all(_aware(there.get(name)) == spec.get(name) for name in options)
        and all(bool(there.get(name)) == bool(spec.get(name)) for name in flags)
        and {name: collation.get(name) for name in spec.get("collation") or {}} == (spec.get("collation") or {})
        and bool(collation) == bool(spec.get("collation"))
    )


def _aware(value: Any) -> Any:
    """The server's times without a zone are in UTC."""
    if isinstance(value, dict):
        return {name: _aware(each) for name, each in value.items()}
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value


def ensure_indexes(documents: Iterable[type[mongoengine.Document]]) -> list[str]:
    """Create collections and the declared indexes; returns `collection.index` of every one that exists then."""
    existing = set(get_db().list_collection_names())
    for document in documents:
        name = document._get_collection_name()
        if name not in existing:
            get_db().create_collection(name)
        try:
            document.ensure_indexes()
        except OperationFailure as error:
            if isinstance(error, STORE_ERRORS):
                raise
            raise IndexRefused(name, error) from error
    return [
        f"{document._get_collection_name()}.{index}"
        for document in documents
        for index in sorted(document._get_collection().index_information())
    ]
