"""Tokens in cookies, for pages of this origin: names and paths are Flask-JWT-Extended's, which reads them again."""

import ipaddress
from datetime import datetime
from typing import Any

from flask import Response, current_app, request
from flask_jwt_extended import get_csrf_token

from ..tokens import Pair

_FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Via")


def set_cookies(response: Response, pair: Pair, now: datetime) -> Response:
    """Hand the tokens over: each in a cookie that no script reads, its CSRF value in one that scripts do."""
    secure = not _is_local()
    for kind, token, ends_at in (
        ("ACCESS", pair.access, pair.access_ends_at),
        ("REFRESH", pair.refresh, pair.refresh_ends_at),
    ):
        seconds = round((ends_at - now).total_seconds())
        shared: dict[str, Any] = {"max_age": seconds, "secure": secure, "samesite": "Strict"}
        response.set_cookie(_name(kind), token, path=_path(kind), httponly=True, **shared)
        response.set_cookie(_name(kind, "CSRF_"), get_csrf_token(token), path="/", **shared)
    return response


def unset_cookies(response: Response) -> Response:
    """Have the browser forget the tokens."""
    for kind in ("ACCESS", "REFRESH"):
        response.delete_cookie(_name(kind), path=_path(kind), httponly=True, samesite="Strict")
        response.delete_cookie(_name(kind, "CSRF_"), path="/", samesite="Strict")
    return response


def has_access_cookie() -> bool:
    """Whether the request came with an access token in a cookie."""
    return _name("ACCESS") in request.cookies


def _name(kind: str, csrf: str = "") -> str:
    return current_app.config[f"JWT_{kind}_{csrf}COOKIE_NAME"]


def _path(kind: str) -> str:
    return current_app.config[f"JWT_{kind}_COOKIE_PATH"]


def _is_local() -> bool:
    """Plain http on this machine with nothing in between: the one case in which `Secure` would lock somebody out."""
    if request.is_secure or any(name in request.headers for name in _FORWARDED):
        return False
    host = request.host.rsplit(":", 1)[0].strip("[]")
    return all(each == "localhost" or _is_loopback(each) for each in (host, request.remote_addr or ""))


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
