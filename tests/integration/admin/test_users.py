"""GET /api/admin/billing/users"""

from datetime import timedelta

import pytest

from billing_service.documents import EPOCH, AdminUser

from ..test_indexes import explained

URL = "/api/admin/billing/users"


@pytest.fixture
def people(runtime):
    """Stores users, each a second younger than the one before."""

    def put(count):
        begun = runtime.clock() - timedelta(days=1)
        rows = [
            AdminUser(
                email=f"u{n}@example.com",
                password_hash="$argon2id$canary",
                roles=["admin" if n % 10 == 0 else "support"],
                disabled=n % 3 == 0,
                created_at=begun + timedelta(seconds=n),
                changed_at=begun + timedelta(seconds=n),
            )
            for n in range(count)
        ]
        AdminUser.objects.insert(rows, load_bulk=False)

    return put


def test_it_works(client, admin, people):
    people(3)
    answer = client.get(URL, headers=admin)
    assert answer.status_code == 200
    assert [each["email"] for each in answer.json["items"]] == [f"u{n}@example.com" for n in (2, 1, 0)]
    assert answer.json["total"] == 3
    assert set(answer.json["items"][0]) == {"id", "email", "roles", "disabled", "createdAt", "changedAt"}
    assert "canary" not in answer.text


def test_pages_follow_each_other(client, admin, people):
    people(5)
    seen, cursor = [], ""
    while cursor is not None:
        page = client.get(f"{URL}?limit=2{f'&cursor={cursor}' if cursor else ''}", headers=admin).json
        seen += [each["email"] for each in page["items"]]
        cursor = page["nextCursor"]
    assert seen == [f"u{n}@example.com" for n in (4, 3, 2, 1, 0)]


def test_it_needs_a_token(client):
    assert client.get(URL).status_code == 401


@pytest.mark.parametrize("role", ["billing-ops", "support", "auditor", "service"])
def test_it_needs_the_permission(client, token, role):
    answer = client.get(URL, headers=token(role))
    assert (answer.status_code, answer.json["code"]) == (403, "forbidden")


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=x", "email=a", "cursor=x", "page=1", "limit=1&limit=2"]
)
def test_it_rejects_bad_input(client, admin, query):
    answer = client.get(f"{URL}?{query}", headers=admin)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request")


def test_its_queries_use_indexes(app, people):
    people(5_000)
    listed = AdminUser.objects(created_at__gte=EPOCH).order_by("-created_at", "-id").limit(20)
    assert explained(listed) == (["newest"], 20, 20)
    assert explained(AdminUser.objects(email="u77@example.com")) == (["email"], 1, 1)
    names, examined, returned = explained(AdminUser.objects(roles="admin", disabled=False))
    assert (names, returned) == (["roles_disabled"], examined)
    names, examined, returned = explained(AdminUser.objects(email__gt="").order_by("email"))
    assert (names, examined) == (["email"], returned)
