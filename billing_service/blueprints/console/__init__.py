"""The console at `/console`: static files that are a client of the documented API, and nothing else."""

from pathlib import Path

from flask import Blueprint, Response, send_from_directory

blueprint = Blueprint("console", __name__, url_prefix="/console")

STATIC = Path(__file__).parent / "static"

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)


@blueprint.get("", strict_slashes=False)
def page() -> Response:
    """Serve the console's page."""
    return send_from_directory(STATIC, "index.html", max_age=0)


@blueprint.get("/<path:name>")
def asset(name: str) -> Response:
    """Serve the page's scripts and styles."""
    return send_from_directory(STATIC, name, max_age=0)


@blueprint.after_request
def protect(response: Response) -> Response:
    """Let the page load nothing from elsewhere, make no markup of texts, and be framed or held by nobody."""
    response.headers["Content-Security-Policy"] = POLICY
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    return response
