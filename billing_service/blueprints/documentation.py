"""The API's documentation page at `/api/docs`; everything it needs is served from here."""

from pathlib import Path

import swagger_ui_bundle
from flask import Blueprint, Response, render_template_string, send_from_directory

from ..errors import KINDS, BillingError

blueprint = Blueprint("documentation", __name__, url_prefix="/api/docs")

ASSETS = Path(swagger_ui_bundle.swagger_ui_path)

# Swagger UI sets styles in elements' attributes; scripts come from this service alone.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>billing_service API</title>
<link rel="icon" href="/api/docs/assets/favicon-32x32.png">
<link rel="stylesheet" href="/api/docs/assets/swagger-ui.css">
<main id="documentation"></main>
<p><a href="/api/docs/errors">Error codes</a> · <a href="/api/openapi.json">OpenAPI document</a></p>
<script src="/api/docs/assets/swagger-ui-bundle.js"></script>
<script src="/api/docs/start.js"></script>
</html>
"""

START = (
    'SwaggerUIBundle({url: "/api/openapi.json", dom_id: "#documentation", deepLinking: true, validatorUrl: null});\n'
)

ERRORS = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>billing_service error codes</title>
<main>
<h1>Error codes</h1>
<p>Every refusal is <code>application/problem+json</code>: type, title, status, detail, code, requestId.</p>
<table>
<thead><tr><th>Code</th><th>Status</th><th>Means</th></tr></thead>
<tbody>
{% for kind in kinds %}<tr id="{{ kind.code }}"><td><code>{{ kind.code }}</code></td><td>{{ kind.status }}</td>
<td>{{ kind.title }}</td></tr>
{% endfor %}</tbody>
</table>
</main>
</html>
"""


@blueprint.get("")
def page() -> str:
    """Show the documentation of the API."""
    return PAGE


@blueprint.get("/start.js")
def start() -> Response:
    """Start the page's viewer."""
    return Response(START, mimetype="text/javascript")


@blueprint.get("/assets/<path:name>")
def asset(name: str) -> Response:
    """Serve the viewer's own files."""
    return send_from_directory(ASSETS, name, max_age=86400)


@blueprint.get("/errors")
def error_codes() -> str:
    """List every error code: the addresses in `type` point here."""
    kinds = sorted((kind for kind in KINDS if kind is not BillingError), key=lambda kind: (kind.status, kind.code))
    return render_template_string(ERRORS, kinds=kinds)


@blueprint.after_request
def protect(response: Response) -> Response:
    """Let the page load nothing from elsewhere."""
    response.headers["Content-Security-Policy"] = POLICY
    return response
