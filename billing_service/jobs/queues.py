"""The queues, the decorator that makes a function a job, and putting one on its queue."""

import functools
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import FrameType
from typing import Any

import structlog
from redis import Redis
from redis.exceptions import RedisError
from rq import Queue, Worker, get_current_job
from rq.timeouts import JobTimeoutException

from ..observability import JOB_SECONDS, JOBS, log
from ..runtime import runtime
from . import runs

# In the order in which a worker serves them.
QUEUES = ("webhooks", "admin", "batch")

RESULT_SECONDS = 300
# Workers give a sign of life at least once in their TTL of a minute.
SILENT_SECONDS = 90
FAILURE_SECONDS = 86_400

Job = Callable[..., Any]


def job(queue: str, timeout: int, *, in_parts: bool = False, with_slot: bool = False) -> Callable[[Job], Job]:
    """Make a function a job of `queue` that may take `timeout` seconds.

    Enqueued with `slot` and `attempt` it has a JobRun row: it runs only if the row was claimed for it, and what
    it returns (a dict) becomes the row's summary. `in_parts` it gets a `cursor` (empty at first) and returns a
    `runs.Part`; each part is a job of its own, so that others of its queue and the queues before it come in between.
    Who carries out the parts himself says `enqueue_next=False`. `with_slot` it is told its slot.
    """

    def decorate(function: Job) -> Job:
        @functools.wraps(function)
        def carried_out(
            *args: Any,
            slot: str | None = None,
            attempt: int = 1,
            part: int = 0,
            enqueue_next: bool = True,
            **kwargs: Any,
        ) -> Any:
            def work(cursor: dict[str, Any]) -> Any:
                told = ({"cursor": cursor} if in_parts else {}) | ({"slot": slot} if with_slot else {})
                with _cut_off_by_timeout():
                    return function(*args, **kwargs, **told)

            with _told(function.__name__):
                if slot is None:
                    return _to_the_end(work) if in_parts else work({})
                result = runs.carry_out(function.__name__, slot, attempt, timeout, work, part=part)
            if isinstance(result, runs.Part):
                if enqueue_next and result.cursor is not None and result.pause is None:
                    _enqueue_next(carried_out, slot, part + 1)
                return result.summary
            return result

        carried_out.queue = queue  # type: ignore[attr-defined]
        carried_out.timeout = timeout  # type: ignore[attr-defined]
        return carried_out

    return decorate


def _to_the_end(work: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    """All parts at once, without a row: whoever calls it waits for it."""
    summary: dict[str, Any] = {}
    cursor: dict[str, Any] | None = {}
    while cursor is not None:
        done = work(cursor)
        summary, cursor = runs.added_up(summary, done.summary), done.cursor
        if done.pause:
            break
    return summary


def _enqueue_next(function: Job, slot: str, part: int) -> None:
    try:
        enqueue_run(function, slot, 1, part)
    except RedisError as error:
        # The claim has two minutes to start; then the sweep takes it up.
        log.warning("slot_not_enqueued", job_name=function.__name__, slot=slot, part=part, error=type(error).__name__)


def enqueue(function: Job, *args: Any, job_id: str | None = None, **kwargs: Any) -> str:
    """Put a job on its queue; returns the id. Raises RedisError."""
    queue = Queue(function.queue, connection=runtime.redis.client())  # type: ignore[attr-defined]
    return queue.enqueue_call(
        function,
        args=args,
        kwargs=kwargs,
        timeout=function.timeout,  # type: ignore[attr-defined]
        result_ttl=RESULT_SECONDS,
        failure_ttl=FAILURE_SECONDS,
        job_id=job_id,
        description=function.__name__,
    ).id


def enqueue_run(function: Job, slot: str, attempt: int, part: int = 0) -> str:
    """Put a claimed slot of a periodic job, or its next part, on its queue. Raises RedisError."""
    job_id = f"{function.__name__}-{slot}-{attempt}"
    if not part:
        return enqueue(function, job_id=job_id, slot=slot, attempt=attempt)
    return enqueue(function, job_id=f"{job_id}-{part}", slot=slot, attempt=attempt, part=part)


def describe_queues() -> dict[str, Any] | None:
    """How many jobs wait on each queue, and how many workers there are; None if Redis does not answer."""
    try:
        client = runtime.redis.quick()
        waiting = [{"name": name, "waiting": Queue(name, connection=client).count} for name in QUEUES]
        ours = [name for name, queues in find_workers(client) if set(queues) & set(QUEUES)]
        return {"queues": waiting, "workers": len(ours)}
    except RedisError as error:
        log.warning("queues_not_read", error=type(error).__name__)
        return None


def find_workers(client: Redis) -> list[tuple[str, tuple[str, ...]]]:
    """The workers that gave a sign of life lately, each with the queues that it serves. Raises RedisError."""
    return [(each.name, tuple(each.queue_names())) for each in Worker.all(connection=client) if _is_alive(each)]


def _is_alive(worker: Any) -> bool:
    # One that was killed stays listed for minutes. One that carries out a job is silent for as long as that takes.
    seen = worker.last_heartbeat
    silent = seen is None or (datetime.now(UTC) - seen.replace(tzinfo=UTC)).total_seconds() > SILENT_SECONDS
    return not silent or worker.get_state() == "busy"


class _OutOfTime(BaseException):
    """RQ's timeout on its way through code that catches every Exception and charges somebody for it."""


@contextmanager
def _cut_off_by_timeout() -> Iterator[None]:
    """Let RQ's timeout end the job at hand, whatever that handles: its alarm rings only once."""
    rings = signal.getsignal(signal.SIGALRM)
    if not callable(rings) or threading.current_thread() is not threading.main_thread():
        yield  # no worker's: nothing will ring
        return

    def ring(signum: int, frame: FrameType | None) -> None:
        try:
            rings(signum, frame)
        except JobTimeoutException as timeout:
            raise _OutOfTime from timeout

    signal.signal(signal.SIGALRM, ring)
    try:
        yield
    except _OutOfTime as out:
        raise JobTimeoutException(str(out.__cause__)) from out
    finally:
        signal.signal(signal.SIGALRM, rings)


@contextmanager
def _told(name: str) -> Iterator[None]:
    current = get_current_job()
    begun = time.perf_counter()
    result = "failed"
    with structlog.contextvars.bound_contextvars(job=name, job_id=current.id if current else None):
        try:
            yield
            result = "succeeded"
        finally:
            seconds = time.perf_counter() - begun
            JOBS.labels(name, result).inc()
            JOB_SECONDS.labels(name).observe(seconds)
            log.info("job_done", result=result, milliseconds=round(seconds * 1000, 1))
