"""The operations desk of a SaaS that bills through Stripe. `create_app` is the table of contents."""

import os

from flask import Flask
from flask_jwt_extended import JWTManager

from .settings import Settings

__version__ = "0.1.0"


def create_app(settings: Settings | None = None, *, serves: bool = True) -> Flask:
    """Wire the application; opens no connection. Raises UnsafeConfiguration or PlanFileError.

    Without `serves` it answers no request: commands, worker and scheduler need not wait for the routes.
    """
    from . import documents, runtime, tokens

    settings = settings or Settings.from_env(os.environ)
    app = Flask(__name__, static_folder=None)
    app.config.update(tokens.configuration(settings))
    app.extensions["billing"] = runtime.build(settings)
    documents.connect(settings.mongodb_uri)

    jwt = JWTManager(app)
    tokens.register(jwt, settings)
    if serves:
        _serve(app, jwt)
    return app


def _serve(app: Flask, jwt: JWTManager) -> None:
    from . import documents, errors, observability
    from .blueprints import (
        admin,
        auth,
        console,
        documentation,
        health,
        openapi,
        organizations,
        stripe_webhooks,
        usage,
        wire,
    )

    app.json = wire.Json(app)
    app.url_map.converters["org_id"] = wire.OrgIdConverter
    app.config.update(openapi.CONFIGURATION, MAX_CONTENT_LENGTH=1024 * 1024)
    errors.register(app, documents.STORE_ERRORS, jwt)
    observability.register(app)

    api = openapi.Api(app)
    api.register_blueprint(admin.blueprint)
    api.register_blueprint(organizations.blueprint)
    api.register_blueprint(usage.blueprint)
    api.register_blueprint(auth.blueprint)
    for blueprint in (stripe_webhooks, health, console, documentation):
        app.register_blueprint(blueprint.blueprint)


__all__ = ["__version__", "create_app"]
