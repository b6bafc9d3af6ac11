"""GET /api/auth/me"""

import time

import pytest

from billing_service.access import PERMISSIONS, ROLES

from .conftest import bearer

URL = "/api/auth/me"


def test_it_works(client, person, sign_in):
    user = person("grace@example.com", "support", "auditor")
    sent = sign_in().json
    answer = client.get(URL, headers=bearer(sent["accessToken"]))
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.json | {"expiresAt": None} == {
        "actor": "grace@example.com",
        "user": {"id": str(user.pk), "email": "grace@example.com", "roles": ["support", "auditor"]},
        "roles": ["support", "auditor"],
        "permissions": sorted(ROLES["support"] | ROLES["auditor"]),
        "maxRefundAmount": 0,
        "requiresNote": False,
        "livemode": False,
        "expiresAt": None,
    }
    assert answer.json["expiresAt"][:19] == sent["expiresAt"][:19]


def test_a_token_of_the_command_line_is_of_no_user(client, token):
    answer = client.get(URL, headers=token("admin", actor="ada"))
    assert (answer.json["actor"], answer.json["user"]) == ("ada", None)
    assert answer.json["permissions"] == sorted(PERMISSIONS)


@pytest.mark.parametrize(
    ("limits", "roles", "limit"),
    [({}, ["admin"], None), ({"billing-ops": 5_000}, ["billing-ops"], 5_000), ({"admin": 7}, ["support"], 0)],
)
def test_it_tells_how_much_may_be_refunded(client, token, configured, limits, roles, limit):
    configured(max_refund_amounts=limits)
    assert client.get(URL, headers=token(*roles)).json["maxRefundAmount"] == limit


def test_it_tells_whether_a_note_is_required(client, token, configured):
    configured(require_note=True)
    assert client.get(URL, headers=token("support")).json["requiresNote"] is True


def test_it_needs_a_token(client):
    answer = client.get(URL)
    assert (answer.status_code, answer.json["code"]) == (401, "unauthorized")
    assert client.get(URL, headers=bearer("a.b.c")).status_code == 401


def test_it_needs_the_permission(client, token):
    """It needs none: who may do nothing learns just that."""
    answer = client.get(URL, headers=token())
    assert (answer.status_code, answer.json["roles"], answer.json["permissions"]) == (200, [], [])


def test_a_refresh_token_does_not_do(client, person, sign_in):
    person()
    assert client.get(URL, headers=bearer(sign_in().json["refreshToken"])).status_code == 401


def test_a_disabled_user_learns_nothing(client, person, sign_in):
    user = person()
    sent = sign_in().json["accessToken"]
    user.update(set__disabled=True, inc__version=1)
    assert client.get(URL, headers=bearer(sent)).status_code == 401


def test_it_rejects_bad_input(client, token):
    answer = client.get(f"{URL}?of=ada", headers=token("admin"))
    assert (answer.status_code, answer.json["errors"]) == (422, {"of": ["Unknown field."]})


def test_where_an_issuer_makes_the_tokens_it_answers_too(client, configured, token):
    headers = token("support", actor="ada")
    configured(jwt_secret_key="")
    answer = client.get(URL, headers=headers)
    assert (answer.status_code, answer.json["actor"]) == (200, "ada")


def test_it_tells_when_the_token_ends(client, token):
    from datetime import datetime

    ends = datetime.fromisoformat(client.get(URL, headers=token("admin", minutes=5)).json["expiresAt"])
    assert 290 < ends.timestamp() - time.time() <= 301
