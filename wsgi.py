"""The WSGI application: `gunicorn wsgi:app`."""

from billing_service import create_app, observability

app = create_app()
observability.configure(app.extensions["billing"].settings.log_level)
