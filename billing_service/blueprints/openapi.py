"""The OpenAPI document, generated from the schemas of the routes."""

from typing import Any

import flask_smorest
from marshmallow import INCLUDE, fields

from .wire import ORG_ID_PATTERN, Instant, OrgId, OrgIdConverter, Wire

CONFIGURATION = {
    "API_TITLE": "billing_service",
    "API_VERSION": "v1",
    "OPENAPI_VERSION": "3.0.3",
    "OPENAPI_URL_PREFIX": "/api",
    "OPENAPI_JSON_PATH": "openapi.json",
    "API_SPEC_OPTIONS": {
        "info": {"description": "The operations desk of a SaaS that bills through Stripe."},
        "components": {
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "cookie": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": "access_token_cookie",
                    "description": "of a sign-in with `cookies`; what is not a GET also needs the value of the cookie "
                    "csrf_access_token in the header X-CSRF-TOKEN",
                },
            }
        },
        "security": [{"token": []}, {"cookie": []}],
    },
}


class ProblemSchema(Wire):
    """RFC 9457 problem document; a code may have further members, such as `limit` or `stripeCode`."""

    class Meta:
        unknown = INCLUDE

    type = fields.String(required=True)
    title = fields.String(required=True)
    status = fields.Integer(required=True)
    detail = fields.String(required=True)
    code = fields.String(required=True)
    request_id = fields.String(allow_none=True)
    errors = fields.Dict()


class Api(flask_smorest.Api):
    """The document's generator; errors are answered by `errors.register`, not by flask-smorest."""

    ERROR_SCHEMA = ProblemSchema

    def __init__(self, app: Any):
        super().__init__()
        self.register_converter(OrgIdConverter, lambda converter: {"type": "string", "pattern": ORG_ID_PATTERN})
        self.register_field(Instant, "string", "date-time")
        self.register_field(OrgId, "string", None)
        self.init_app(app)

    def _register_responses(self) -> None:
        """Document refusals under the media type that they are answered with."""
        self.DEFAULT_RESPONSE_CONTENT_TYPE = "application/problem+json"
        super()._register_responses()
        del self.DEFAULT_RESPONSE_CONTENT_TYPE  # the class's own again, for what succeeds

    def _register_error_handlers(self) -> None:
        """Leave them to the one module that turns errors into HTTP."""
