"""Looking at imports: one of them, and what it makes of each subscription."""

from collections.abc import Iterator

from bson import ObjectId

from ..documents import ImportItem, ImportRun
from ..errors import ImportNotFound

BATCH = 500


def find_import(import_id: ObjectId | None) -> ImportRun:
    """The import, or without an id the newest one; raises ImportNotFound."""
    if import_id is None:
        run = ImportRun.objects.order_by("-started_at", "-id").first()
    else:
        run = ImportRun.objects(id=import_id).first()
    if run is None:
        raise ImportNotFound("There is no such import." if import_id else "Nothing was imported yet.")
    return run


def items_of(run: ImportRun, *, state: str | None = None, reason: str | None = None) -> Iterator[ImportItem]:
    """What it makes of each subscription, by state, reason and id; read in batches, none is kept."""
    told = {"state": state, "reason": reason}
    wanted = {name: value for name, value in told.items() if value is not None}
    found = ImportItem.objects(run=run.pk, **wanted).order_by("state", "reason", "stripe_subscription_id")
    yield from found.hint("run_state_reason").exclude("snapshot").no_cache().batch_size(BATCH)
