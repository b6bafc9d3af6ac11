"""The processes of an installation, and what is made before they start."""

import os
import sys
from pathlib import Path

import click
from flask import Flask

from ..secret_files import read_secrets
from ..settings import SECRETS, UnsafeConfiguration
from .group import cli, say, with_app
from .terminal import refusals_told


@cli.command()
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65535), help="the web process's port")
@click.option(
    "--data-dir",
    default=".data",
    show_default=True,
    type=click.Path(path_type=Path),
    help="kept between starts",
)
@click.option("--no-demo", is_flag=True, help="start without demo data")
@click.option("--ready-file", type=click.Path(path_type=Path), help="JSON written when all is up")
def dev(port: int, data_dir: Path, no_demo: bool, ready_file: Path | None) -> None:
    """Start everything on this machine: MongoDB, Redis, a Stripe sandbox, web, worker, scheduler, demo data.

    MONGODB_URI, REDIS_URL, STRIPE_SECRET_KEY or STRIPE_API_BASE given: that part is used, not started.
    Exit codes: 0 stopped by Ctrl-C or SIGTERM, 1 something did not start or died too often, 2 wrong use.
    """
    from ..sandbox.dev import run

    environ, unread = read_secrets(os.environ, SECRETS)
    if unread:
        raise UnsafeConfiguration(list(unread.values()))
    sys.exit(run(port=port, data_dir=data_dir, demo=not no_demo, ready_file=ready_file, environ=environ))


@cli.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65535))
@with_app
def web(app: Flask, host: str, port: int) -> None:
    """Serve HTTP with gunicorn until told to stop.

    Exit codes: 0 told to stop, 1 it died, 2 wrong use or configuration, MongoDB cannot do transactions, or the key is
    of another Stripe account.
    """
    from .. import startup

    startup.check(app.extensions["billing"])
    startup.exec_gunicorn(app.extensions["billing"].settings, host, port)


@cli.command()
@with_app
def worker(app: Flask) -> None:
    """Run jobs until told to stop.

    Exit codes: 0 told to stop, 1 it died, 2 wrong use or configuration, MongoDB cannot do transactions, or the key is
    of another Stripe account.
    """
    from .. import startup
    from ..jobs import worker as process

    startup.check(app.extensions["billing"])
    startup.serve_metrics(app.extensions["billing"].settings)
    process.run(app)


@cli.command()
@with_app
def scheduler(app: Flask) -> None:
    """Put periodic jobs into the queues until told to stop; several may run.

    Exit codes: 0 told to stop, 1 it died, 2 wrong use or configuration.
    """
    from .. import startup
    from ..jobs import scheduler as process

    startup.serve_metrics(app.extensions["billing"].settings)
    process.run(app)


@cli.command()
@click.option("--json", "as_json", is_flag=True)
@with_app
@refusals_told
def indexes(app: Flask, as_json: bool) -> None:
    """Make the collections and indexes that are missing, and drop those of earlier versions.

    Exit codes: 0 all are there, 1 one cannot be made (the reason is told) or the database does not answer, 2 wrong use.
    """
    from ..documents import DOCUMENTS, RETIRED_INDEXES, IndexRefused, drop_indexes, ensure_indexes

    drop_indexes(RETIRED_INDEXES)
    try:
        found = ensure_indexes(DOCUMENTS)
    except IndexRefused as refusal:
        click.echo(str(refusal), err=True)
        sys.exit(1)
    say(as_json, {"indexes": found}, "\n".join(found))
