"""The worker process: RQ's own worker, started again when Redis comes back, ended by SIGTERM.

SimpleWorker, not the forking one: the connections to MongoDB and Stripe stay open, and the circuit breaker's
memory outlives a job. A crash of the interpreter ends the process; whoever started it starts it again, and
leases and slots are taken up by others.
"""

from flask import Flask
from redis.exceptions import RedisError
from rq import SimpleWorker

from ..observability import log
from ..runtime import RedisDoor
from . import shutdown
from .queues import QUEUES

RETRY_SECONDS = 2.0
WORKER_TTL_SECONDS = 60
MAINTENANCE_SECONDS = 30
MONITORING_SECONDS = 10
# RQ's own pause doubles up to a minute, too long for who waits for a webhook.
LONGEST_PAUSE_SECONDS = 5.0


def run(app: Flask) -> None:
    """Carry out jobs until SIGTERM or SIGINT; the job at hand is ended in good order. Main thread only."""
    shutdown.listen()
    log.info("worker_started", queues=QUEUES)
    with app.app_context():
        while not shutdown.requested():
            _work(app.extensions["billing"].settings.redis_url)
            if not shutdown.requested():
                shutdown.wait(RETRY_SECONDS)
    log.info("worker_stopped")


def _work(redis_url: str) -> None:
    try:
        worker = SimpleWorker(
            QUEUES,
            # A client of its own: RQ lengthens its timeouts to wait for jobs.
            connection=RedisDoor(redis_url).client(),
            worker_ttl=WORKER_TTL_SECONDS,
            maintenance_interval=MAINTENANCE_SECONDS,
            job_monitoring_interval=MONITORING_SECONDS,
            log_job_description=False,
        )
        worker.max_connection_wait_time = LONGEST_PAUSE_SECONDS
        worker.work(logging_level="WARNING")
    except RedisError as error:
        if not shutdown.requested():
            log.warning("worker_without_redis", error=type(error).__name__, retry_seconds=RETRY_SECONDS)
    finally:
        # RQ's handlers would end the process the hard way from here on.
        shutdown.listen()
