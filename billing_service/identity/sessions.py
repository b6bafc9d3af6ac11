"""What has become of tokens since they were made: revoked, used, or made for a user who has changed."""

from datetime import UTC, datetime, timedelta
from typing import Any

from bson import ObjectId
from mongoengine.errors import NotUniqueError

from ..documents import AdminUser, Revocation

# The claims of a token that a sign-in made; tokens of the command line and of issuers have none of them.
USER, VERSION, SESSION = "billing_user", "billing_user_version", "billing_session"

# From signing in to the end of the last refresh token; refreshing does not prolong it.
SESSION_LASTS = timedelta(hours=12)
# Tokens are accepted a little after their end (clocks differ): what ends them must outlive that.
MARGIN = timedelta(minutes=1)
_LAST = int(datetime(9000, 1, 1, tzinfo=UTC).timestamp())


def is_revoked(claims: dict[str, Any]) -> bool:
    """Whether the token or its session was ended, or its user changed since it was made: one request by indexes."""
    ids = [each for each in (claims.get("jti"), claims.get(SESSION)) if isinstance(each, str)]
    if USER in claims:
        return _user_of(claims, ids) is None
    return bool(ids) and Revocation.objects(jti__in=ids).only("jti").first() is not None


def refreshing(claims: dict[str, Any]) -> AdminUser | None:
    """The user whose session a refresh token continues; None if either has ended. Whether it was used is not asked."""
    session, jti = claims.get(SESSION), claims.get("jti")
    if not isinstance(session, str) or not isinstance(jti, str):
        return None
    return _user_of(claims, [session])


def _user_of(claims: dict[str, Any], ids: list[str]) -> AdminUser | None:
    """The user whom a token was made for, if enabled and not changed since, and none of the ids was revoked."""
    user_id, version = claims.get(USER), claims.get(VERSION)
    if not isinstance(user_id, str) or not ObjectId.is_valid(user_id) or type(version) is not int:
        return None
    ended = {"from": Revocation._get_collection_name(), "pipeline": [{"$match": {"_id": {"$in": ids}}}], "as": "ended"}
    same = AdminUser.objects(id=user_id, version=version, disabled=False)
    found = next(iter(same.aggregate([{"$lookup": ended}])), None)
    return AdminUser._from_son(found) if found and not found["ended"] else None


def revoke(claims: dict[str, Any], *, now: datetime) -> None:
    """Sign out: end the token and the session it belongs to, with all tokens of it; twice is once."""
    if isinstance(claims.get("jti"), str):
        _put(claims["jti"], "signed_out", now, now + SESSION_LASTS if SESSION in claims else _end_of(claims))
    if isinstance(claims.get(SESSION), str):
        end_session(claims[SESSION], "signed_out", now=now)


def use_once(claims: dict[str, Any], *, now: datetime) -> bool:
    """Use a refresh token up; False if it was used before: then its session ends, since one of the two is a thief."""
    if _put(claims["jti"], "used", now, _end_of(claims)):
        return True
    end_session(claims[SESSION], "reused", now=now)
    return False


def end_session(session: str, reason: str, *, now: datetime) -> None:
    """End all tokens of the session, those that are being made too."""
    _put(session, reason, now, now + SESSION_LASTS)


def _end_of(claims: dict[str, Any]) -> datetime:
    return datetime.fromtimestamp(min(int(claims["exp"]), _LAST), UTC)


def _put(jti: str, reason: str, now: datetime, until: datetime) -> bool:
    row = Revocation(jti=jti, reason=reason, at=now, expires_at=until + MARGIN)
    try:
        row.save(force_insert=True)
    except NotUniqueError:
        return False
    return True
