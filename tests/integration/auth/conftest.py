"""Users who sign in, and clocks that can be moved."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

PASSWORD = "correct horse battery"


@pytest.fixture
def person(app: Any, runtime: Any) -> Any:
    """Makes an admin user with PASSWORD; returns the row."""
    from billing_service import identity
    from billing_service.documents import AdminUser

    def make(email: str = "grace@example.com", *roles: str, **fields: Any) -> Any:
        made = identity.create(
            email, list(roles or ["admin"]), PASSWORD, now=runtime.clock(), also=lambda outcome: None
        )
        user = AdminUser.objects(id=made.answer["updated"]["id"]).first()
        if fields:
            AdminUser.objects(id=user.pk).update_one(**{f"set__{name}": value for name, value in fields.items()})
        return user.reload()

    return make


@pytest.fixture
def sign_in(client: Any) -> Any:
    """Signs in, with PASSWORD if no other is given; returns the answer."""

    def ask(email: str = "grace@example.com", password: str = PASSWORD, address: str = "192.0.2.1", **more: Any) -> Any:
        return client.post(
            "/api/auth/login",
            json={"email": email, "password": password} | more,
            environ_overrides={"REMOTE_ADDR": address},
        )

    return ask


def bearer(sent: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {sent}"}


@pytest.fixture
def clock(app: Any) -> Any:
    """A clock of the service that stands still; calling it moves it by so many seconds."""
    billing = app.extensions["billing"]
    now = [billing.clock()]
    app.extensions["billing"] = replace(billing, clock=lambda: now[0])

    def move(seconds: float) -> None:
        now[0] += timedelta(seconds=seconds)

    yield move
    app.extensions["billing"] = billing


@pytest.fixture
def configured(app: Any) -> Any:
    """Changes settings for a test."""
    billing = app.extensions["billing"]

    def change(**settings: Any) -> None:
        now = app.extensions["billing"]
        app.extensions["billing"] = replace(now, settings=replace(now.settings, **settings))

    yield change
    app.extensions["billing"] = billing
