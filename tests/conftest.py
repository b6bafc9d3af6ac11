"""Real servers for the tests, and the application on them. The folder of a test decides its marker."""

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId

TESTS = Path(__file__).parent
TIERS = ("unit", "integration", "property", "e2e")
WEBHOOK_SECRET = "whsec_of_the_tests_0123456789"
# Folders that belong to a tier although they do not bear its name.
ELSEWHERE = {"sandbox": "integration", "sandbox_servers": "integration"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0]
        tier = ELSEWHERE.get(folder, folder)
        if tier not in TIERS:
            raise pytest.UsageError(f"{item.path} is in no tier's folder ({', '.join(TIERS)})")
        item.add_marker(tier)
        if tier == "unit":
            item.add_marker(pytest.mark.disable_socket)


@dataclass
class Servers:
    """The real servers of this worker."""

    mongod: Any
    redis: Any
    stripe: Any


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    from billing_service.sandbox import servers as starters

    folder = tmp_path_factory.mktemp("servers")
    with (
        starters.mongod(folder) as mongod,
        starters.redis(folder) as redis,
        starters.stripe_sandbox(folder) as stripe,
    ):
        yield Servers(mongod, redis, stripe)


@pytest.fixture(scope="session")
def environment(servers: Servers) -> dict[str, str]:
    """The variables that a process of the service needs to use the tests' servers."""
    return {
        "MONGODB_URI": servers.mongod.url,
        "REDIS_URL": servers.redis.url,
        "STRIPE_SECRET_KEY": "sk_test_sandbox",
        "STRIPE_API_BASE": servers.stripe.url,
        "STRIPE_WEBHOOK_SECRETS": WEBHOOK_SECRET,
        "STRIPE_REQUESTS_PER_SECOND": "1000",
        "STRIPE_READ_TIMEOUT": "1.0",
        "STRIPE_CONNECT_TIMEOUT": "0.5",
        "CANCEL_VERIFY_SECONDS": "1.5",
        "JWT_SECRET_KEY": "the key of the tests, sixty-four bytes or more, which is enough for any HMAC",
    }


@pytest.fixture(scope="session")
def wired(environment: dict[str, str]) -> Iterator[Any]:
    """The application, made once for this worker, with its indexes."""
    import mongoengine

    from billing_service import create_app, observability
    from billing_service.documents import DOCUMENTS, ensure_indexes
    from billing_service.settings import Settings

    observability.configure("INFO")
    app = create_app(Settings.from_env(environment))
    app.testing = False  # errors are answered as in production
    ensure_indexes(DOCUMENTS)
    yield app
    mongoengine.disconnect_all()


@pytest.fixture
def app(wired: Any, servers: Servers, sandbox: Any) -> Iterator[Any]:
    """The application with empty stores and a fresh Stripe account."""
    import redis as redis_client
    from mongoengine.connection import get_db

    database = get_db()
    for name in _filled(database):
        database[name].delete_many({})
        # MongoDB's own count of a collection can be off, after a crash for one, until it is validated.
        if database[name].estimated_document_count():
            database.command("validate", name)
    redis_client.Redis.from_url(servers.redis.url).flushall()
    with wired.app_context():
        wired.extensions["billing"].stripe.circuit.succeeded()
        yield wired


def _filled(database: Any) -> list[str]:
    """The collections that hold anything, found in one round trip: most hold nothing."""

    def look(name: str) -> list[dict[str, Any]]:
        return [{"$limit": 1}, {"$project": {"_id": 0, "name": {"$literal": name}}}]

    first, *others = database.list_collection_names(filter={"type": "collection"})
    unions = [{"$unionWith": {"coll": each, "pipeline": look(each)}} for each in others]
    return [found["name"] for found in database[first].aggregate([*look(first), *unions])]


@pytest.fixture
def runtime(app: Any) -> Any:
    return app.extensions["billing"]


@pytest.fixture
def client(app: Any) -> Any:
    return app.test_client()


@pytest.fixture
def sandbox(servers: Servers) -> Any:
    """The control plane of a fresh sandbox; webhooks are held until a test releases them."""
    from billing_service.sandbox.stripe.control import Control

    control = Control(servers.stripe.url)
    control.reset()
    control.hold()
    return control


@pytest.fixture
def stripe(servers: Servers, sandbox: Any) -> Any:
    """Stripe's own SDK, for what an admin or a customer does at Stripe."""
    import stripe as sdk

    return sdk.StripeClient("sk_test_sandbox", base_addresses={"api": servers.stripe.url}, max_network_retries=0).v1


@pytest.fixture
def token(app: Any) -> Any:
    """Makes the header of a token of the given roles."""
    from billing_service import tokens

    settings = app.extensions["billing"].settings

    def make(*roles: str, actor: str = "ada@example.com", minutes: float = 10) -> dict[str, str]:
        return {"Authorization": f"Bearer {tokens.issue(settings, actor, list(roles), minutes)}"}

    return make


@pytest.fixture
def admin(token: Any) -> dict[str, str]:
    return token("admin")


_numbers = itertools.count(1)


@pytest.fixture
def organization(app: Any) -> Any:
    """Makes an organization; returns its id."""
    from billing_service.documents import Organization

    def make(**fields: Any) -> ObjectId:
        number = next(_numbers)
        row = Organization(
            **(
                {
                    "id": ObjectId(),
                    "name": f"Org {number}",
                    "slug": f"org-{os.getpid()}-{number}",
                    "plan": "free",
                }
                | fields
            )
        )
        row.save(force_insert=True)
        return row.pk

    return make
