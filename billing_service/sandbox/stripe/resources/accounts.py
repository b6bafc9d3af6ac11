"""The account that a key belongs to."""

from ..problems import Problem
from ..routes import route


@route("GET", "/v1/account")
def own(call):
    return call.sandbox.accounts.body(call.books.account)


@route("GET", "/v1/accounts/{account}")
def retrieve(call):
    if call.path["account"] != call.books.account:
        raise Problem(
            403,
            f"The provided key does not have access to account '{call.path['account']}' (or that "
            "account does not exist). Application access may have been revoked.",
            code="account_invalid",
        )
    return own(call)
