"""PUT /api/billing/organizations/{orgId}"""

import pytest
from bson import ObjectId

from billing_service.documents import Organization

BASE = "/api/billing/organizations/"


def put(client, headers, org_id, **body):
    return client.put(f"{BASE}{org_id}", headers=headers, json=body)


def test_it_works(client, token):
    org_id = ObjectId()
    answer = put(client, token("service"), org_id, name="Acme", slug="acme")
    assert answer.status_code == 200
    assert (answer.json["id"], answer.json["plan"]) == (str(org_id), "free")
    assert Organization.objects(id=org_id).first().slug == "acme"


def test_twice_is_once(client, token):
    org_id = ObjectId()
    first = put(client, token("service"), org_id, name="Acme", slug="acme").json
    assert put(client, token("service"), org_id, name="Acme", slug="acme").json == first
    assert len(Organization.objects) == 1


def test_it_changes_the_name_and_never_the_plan(client, token, organization):
    org_id = organization(plan="pro", seats=7)
    answer = put(client, token("service"), org_id, name="Acme 2", slug="acme-2")
    assert (answer.json["name"], answer.json["plan"]) == ("Acme 2", "pro")
    assert Organization.objects(id=org_id).first().seats == 7


def test_it_needs_a_token(client):
    assert put(client, {}, ObjectId(), name="a", slug="b").status_code == 401


def test_it_needs_the_permission(client, token):
    answer = put(client, token("support"), ObjectId(), name="a", slug="b")
    assert (answer.status_code, len(Organization.objects)) == (403, 0)


@pytest.mark.parametrize(
    ("org_id", "body"),
    [
        ("x", {"name": "a", "slug": "b"}),
        (ObjectId(), {}),
        (ObjectId(), {"name": "a"}),
        (ObjectId(), {"name": "", "slug": "b"}),
        (ObjectId(), {"name": "a" * 201, "slug": "b"}),
        (ObjectId(), {"name": "a\x00", "slug": "b"}),
        (ObjectId(), {"name": {"$gt": ""}, "slug": "b"}),
        (ObjectId(), {"name": "a", "slug": "b", "plan": "business"}),
    ],
)
def test_it_rejects_bad_input(client, token, org_id, body):
    answer = put(client, token("service"), org_id, **body)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request")
    assert len(Organization.objects) == 0
