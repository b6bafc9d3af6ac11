"""How every admin mutation runs: dry run, note, Idempotency-Key, throttle, audit."""

from collections.abc import Callable
from typing import Any

from bson import ObjectId
from flask import g, request

from ...errors import BillingError, InvalidRequest, TooManyRequests
from ...jobs import wakeups
from ...observability import log
from ...operations import Asked, Outcome, Running, perform
from ...runtime import runtime


def mutate(
    kind: str,
    target: ObjectId | str,
    asked_how: dict[str, Any],
    body: dict[str, Any],
    *,
    foretell: Callable[[], Outcome],
    work: Callable[[Running], Outcome],
    organization: ObjectId | None = None,
    sealed: dict[str, str] | None = None,
    announces: bool = False,
) -> Any:
    """Answer what would change, or do it once; `foretell` must not write. `asked_how` is headers and query.

    The target is an organization's id, or the id of something else and then, if known, whose it is; if the work has
    to find that out it `announces`. `sealed` are digests of what the body had and nothing may store.
    """
    if asked_how["dry_run"]:
        return foretell().answer | {"dry_run": True}
    throttle()
    asked = Asked(
        kind=kind,
        target=str(target),
        organization=target if isinstance(target, ObjectId) else organization,
        actor=g.identity.actor,
        role=",".join(g.identity.roles),
        route=f"{request.method} {request.url_rule}",
        body={name: value for name, value in body.items() if name != "note"},
        note=required_note(body),
        idempotency_key=asked_how.get("idempotency_key"),
        request_id=g.request_id,
        sealed=sealed or {},
    )
    try:
        outcome, repeated = perform(asked, runtime.clock, work, announces=announces)
    except BillingError as refusal:
        g.idempotency_replayed = getattr(refusal, "is_stored", False)
        raise
    whose = asked.organization and str(asked.organization)
    log.info(
        "admin_operation", action=kind, target=asked.target, organization=whose, actor=asked.actor, repeated=repeated
    )
    g.idempotency_replayed = repeated
    wakeups.wake_outbox()
    return outcome.answer, outcome.status


def required_note(body: dict[str, Any]) -> str | None:
    """The note; refused when REQUIRE_NOTE is set and there is none."""
    note = body.get("note")
    if runtime.settings.require_note and not note:
        raise InvalidRequest("A note is required: say why.", errors={"note": ["is required here"]})
    return note


def throttle() -> None:
    """At most MUTATIONS_PER_MINUTE for an actor over all processes; without Redis nobody is held up."""
    minute = int(runtime.clock().timestamp() // 60)
    name = f"billing:mutations:{g.identity.actor}:{minute}"
    try:
        pipe = runtime.redis.quick().pipeline()
        pipe.incr(name)
        pipe.expire(name, 120)
        count = pipe.execute()[0]
    except Exception as error:  # a limit that cannot be counted must not stop a repair
        log.warning("throttle_not_counted", error=type(error).__name__)
        return
    if count > runtime.settings.mutations_per_minute:
        raise TooManyRequests(
            f"More than {runtime.settings.mutations_per_minute} mutations in this minute.",
            retry_after=60 - runtime.clock().timestamp() % 60,
        )
