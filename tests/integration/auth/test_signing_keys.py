"""JWT_SECRET_KEY while it is rotated: what was signed with the one before it goes on working, and then does not."""

import jwt as pyjwt
import pytest

from billing_service import create_app
from billing_service.settings import Settings

from .conftest import bearer

OLD = "the key of the tests, sixty-four bytes or more, which is enough for any HMAC"
NEW = "the key that comes after it, which is another one and long enough as well"
USERS = "/api/admin/billing/users"
REFRESH = "/api/auth/refresh"


@pytest.fixture
def with_keys(environment, app):
    """Makes a client of a process that has these keys."""
    from mongoengine import disconnect_all

    from billing_service.documents import connect

    def make(current, previous=""):
        given = {"JWT_SECRET_KEY": current, "JWT_SECRET_KEY_PREVIOUS": previous}
        return create_app(Settings.from_env(environment | given)).test_client()

    yield make
    disconnect_all()
    connect(environment["MONGODB_URI"])


def test_sessions_and_tokens_outlive_a_rotation(with_keys, person, sign_in, token):
    person()
    pair, machine = sign_in().json, token("admin")
    rotated = with_keys(NEW, OLD)
    assert rotated.get(USERS, headers=bearer(pair["accessToken"])).status_code == 200
    assert rotated.get(USERS, headers=machine).status_code == 200
    renewed = rotated.post(REFRESH, headers=bearer(pair["refreshToken"])).json
    pyjwt.decode(renewed["accessToken"], NEW, ["HS256"])
    finished = with_keys(NEW)
    assert finished.get(USERS, headers=bearer(renewed["accessToken"])).status_code == 200
    assert finished.get(USERS, headers=bearer(pair["accessToken"])).status_code == 401
    assert finished.get(USERS, headers=machine).status_code == 401


def test_the_previous_key_is_taken_only_from_tokens_that_name_it(with_keys, token):
    name = pyjwt.get_unverified_header(token("admin")["Authorization"].split()[1])["kid"]
    claims = {"sub": "ada", "exp": 4_000_000_000, "billing_roles": ["admin"]}
    rotated = with_keys(NEW, OLD)
    for key, kid, status in ((OLD, name, 200), (OLD, None, 401), (NEW, name, 401), (NEW, None, 200), (NEW, "x", 200)):
        sent = pyjwt.encode(claims, key, "HS256", headers={"kid": kid} if kid else None)
        assert rotated.get(USERS, headers=bearer(sent)).status_code == status, (key, kid)
    sent = pyjwt.encode(claims, OLD, "HS256", headers={"kid": name})
    assert with_keys(NEW).get(USERS, headers=bearer(sent)).status_code == 401
