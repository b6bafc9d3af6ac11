"""Rights on values: permissions of roles, and how much of a charge they may refund."""

import pytest

from billing_service.access import permissions_of, refund_limit


def test_permissions_of_several_roles_add_up():
    assert permissions_of(["service", "auditor"]) == permissions_of(["service"]) | permissions_of(["auditor"])
    assert permissions_of(["root"]) == frozenset()


@pytest.mark.parametrize(
    ("roles", "limit"),
    [
        (["billing-ops"], 500),
        (["admin"], None),
        (["billing-ops", "admin"], None),
        (["billing-ops", "support", "auditor"], 500),
        (["support"], 0),
        ([], 0),
    ],
)
def test_the_most_generous_role_that_may_refund_counts(roles, limit):
    assert refund_limit(roles, {"billing-ops": 500}) == limit


def test_a_limit_for_admins_holds():
    assert refund_limit(["admin"], {"admin": 100}) == 100
    assert refund_limit(["admin", "billing-ops"], {"admin": 100, "billing-ops": 500}) == 500
