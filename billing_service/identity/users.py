"""Admin users: made, changed, disabled, and recognised by their password. Each change ends the tokens made before."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from bson import ObjectId
from mongoengine.errors import NotUniqueError
from pymongo.errors import DuplicateKeyError

from ..documents import AdminUser, ServiceState, in_transaction
from ..errors import BillingError, LastAdmin, UserExists, UserNotFound
from ..operations import Outcome
from . import passwords

Also = Callable[[Outcome], None]
ADMIN = "admin"
NEW_FIELDS = ["email", "roles", "disabled", "password"]


def sign_in(email: str, password: str) -> tuple[AdminUser | None, str]:
    """The enabled user of this e-mail and password, or None, and why, for the log: the answer is always the same.

    A hash of outdated parameters is made anew.
    """
    user = find_by_email(email)
    fits = passwords.fits(user.password_hash if user else None, password)
    if user is None or user.disabled or not fits:
        return None, "unknown" if user is None else "disabled" if user.disabled else "password"
    if passwords.is_outdated(user.password_hash):
        same = AdminUser.objects(id=user.pk, password_hash=user.password_hash)
        same.update_one(set__password_hash=passwords.hashed(password))
    return user, ""


def find_by_email(email: str) -> AdminUser | None:
    """The user of this e-mail, in whatever case."""
    return AdminUser.objects(email=email.lower()).first()


def foretell_create(email: str, roles: list[str], password: str) -> Outcome:
    """What making the user would come to. Raises UserExists and InvalidRequest."""
    passwords.refuse_weak(password, email)
    _refuse_taken(email)
    return _outcome(None, {"id": None, "email": email, "roles": roles, "disabled": False}, NEW_FIELDS)


def create(email: str, roles: list[str], password: str, *, now: datetime, also: Also) -> Outcome:
    """Make a user; `email` is in lower case. `also` joins the transaction. Raises UserExists and InvalidRequest."""
    passwords.refuse_weak(password, email)
    made = passwords.hashed(password)  # slow: not inside the transaction

    def write() -> Outcome:
        _refuse_taken(email)
        user = AdminUser(email=email, password_hash=made, roles=roles, created_at=now, changed_at=now)
        user.save(force_insert=True)
        outcome = _outcome(None, user.describe(), NEW_FIELDS, status=201)
        also(outcome)
        return outcome

    try:
        return in_transaction(write)
    except (DuplicateKeyError, NotUniqueError) as error:
        raise _taken(email) from error


def foretell_change(user_id: ObjectId, wanted: dict[str, Any], *, keep_an_admin: bool = True) -> Outcome:
    """What a change would come to. Raises UserNotFound, LastAdmin and InvalidRequest."""
    return _applied(_require(user_id), wanted, keep_an_admin)


def change(
    user_id: ObjectId, wanted: dict[str, Any], *, now: datetime, also: Also, keep_an_admin: bool = True
) -> Outcome:
    """Set what `wanted` has of roles, disabled and password, and end the user's tokens if anything changes.

    `also` joins the transaction. Raises UserNotFound, LastAdmin and InvalidRequest.
    """
    made = passwords.hashed(wanted["password"]) if "password" in wanted else None

    def write() -> Outcome:
        user = _require(user_id)
        outcome = _applied(user, wanted, keep_an_admin)
        if outcome.answer["changed"]:
            _one_at_a_time(user, now)
            user.password_hash = made or user.password_hash
            user.version, user.changed_at = user.version + 1, now
            user.save()
            outcome.answer["updated"]["changed_at"] = now
        also(outcome)
        return outcome

    return in_transaction(write)


def _applied(user: AdminUser, wanted: dict[str, Any], keep_an_admin: bool) -> Outcome:
    before = user.describe()
    if "password" in wanted:
        passwords.refuse_weak(wanted["password"], user.email)
    for name in ("roles", "disabled"):
        if name in wanted:
            setattr(user, name, wanted[name])
    after = user.describe()
    if keep_an_admin and _is_admin(before) and not _is_admin(after):
        _refuse_last(user)
    changed = [name for name in after if after[name] != before[name]]
    return _outcome(before, after, changed + (["password"] if "password" in wanted else []))


def _is_admin(shown: dict[str, Any]) -> bool:
    return ADMIN in shown["roles"] and not shown["disabled"]


def _refuse_last(user: AdminUser) -> None:
    if AdminUser.objects(roles=ADMIN, disabled=False, id__ne=user.pk).first() is None:
        raise LastAdmin(
            f"This is the last enabled user with the role {ADMIN}; nobody could undo it. Give the role to another "
            "one first. Nothing was written."
        )


def _one_at_a_time(user: AdminUser, now: datetime) -> None:
    # Two admins who disable each other write different rows; this one makes the second transaction look again.
    ServiceState.objects(name="admin_users").update_one(upsert=True, set__value=str(user.pk), set__at=now)


def _require(user_id: ObjectId) -> AdminUser:
    user = AdminUser.objects(id=user_id).first()
    if user is None:
        raise UserNotFound(f"There is no user {user_id}.")
    return user


def _refuse_taken(email: str) -> None:
    if find_by_email(email) is not None:
        raise _taken(email)


def _taken(email: str) -> BillingError:
    return UserExists("There is a user with this e-mail already. Nothing was written.")


def _outcome(before: dict[str, Any] | None, after: dict[str, Any], changed: list[str], status: int = 200) -> Outcome:
    answer = {"previous": before, "updated": after, "changed": changed}
    return Outcome(answer, before=before, after=after, status=status)
