"""The shapes of batches of replays, as endpoints and command line show them."""

from typing import Any

from marshmallow import ValidationError, fields, validate, validates_schema

from ...documents.replay_batch import BATCH_STATES, ITEM_STATES
from ...webhooks import batches
from ...webhooks import selection as selections
from ..naming import OrgName
from ..wire import FieldName, Instant, NoteBody, OrgId, Page, PageQuery, Wire, one_of, text
from .event_schemas import Words


class SelectionFilter(Wire):
    """Which events to replay; nothing given means all dead letters."""

    state = one_of(selections.STATES, metadata={"description": "dead unless given"})
    type = text(most=200)
    fingerprint = text(most=200)
    reason = text(most=100)
    org_id = OrgId()
    received_from = Instant(metadata={"description": "received at this time or later"})
    received_to = Instant(metadata={"description": "received before this time"})
    dead_from = Instant(metadata={"description": "dead at this time or later; of dead letters only"})
    dead_to = Instant(metadata={"description": "dead before this time; of dead letters only"})
    limit = fields.Integer(
        validate=validate.Range(min=1, max=selections.MOST),
        metadata={"description": "those that Stripe created first; 50,000 unless given"},
    )

    @validates_schema
    def _dead_only(self, data: dict[str, Any], **kwargs: Any) -> None:
        for name in ("dead_from", "dead_to"):
            if name in data and data.get("state", "dead") != "dead":
                raise ValidationError("goes with the state dead only", str(self.fields[name].data_key))


class BatchBody(SelectionFilter, NoteBody):
    """A dry run takes the filter; running takes `selection` and `confirm` of the dry run's answer."""

    selection = text(most=4000, metadata={"description": "as the dry run answered it; valid for 15 minutes"})
    confirm = fields.Integer(
        validate=validate.Range(min=1, max=selections.MOST), metadata={"description": "the dry run's count"}
    )
    stop_after = fields.Integer(
        validate=validate.Range(min=1, max=1000),
        metadata={"description": f"so many failures in a row; {batches.STOP_AFTER} unless given"},
    )


class SelectedSchema(Wire):
    event_id = fields.String()
    type = fields.String()
    org_id = OrgId(attribute="organization", allow_none=True)
    created = Instant()
    reason = fields.String(allow_none=True)


class BatchAskedSchema(Wire):
    """The batch that was begun; of a dry run, what would be in it."""

    batch_id = fields.String()
    state = fields.String()
    status_url = fields.String()
    count = fields.Integer(metadata={"description": "events that are, or would be, replayed"})
    is_limited = fields.Boolean(metadata={"description": "more match than the limit"})
    unfit = fields.Integer(
        metadata={"description": "match and are left out: of another mode or account, or of a type without handler"}
    )
    sample = fields.List(fields.Nested(SelectedSchema), metadata={"description": "the first; the very first is tried"})
    selection = fields.String()
    valid_until = Instant()
    dry_run = fields.Boolean()


class BatchSchema(Wire):
    """A batch and how far it is. Ended ones are succeeded, partly_failed, stopped or cancelled."""

    batch_id = fields.String()
    state = one_of(BATCH_STATES)
    stop_reason = fields.String(
        allow_none=True, metadata={"description": "canary_failed, failures_in_row, lease_losses"}
    )
    filter = fields.Nested(SelectionFilter)
    selected_at = Instant()
    total = fields.Integer()
    done = fields.Integer(metadata={"description": "items at their end"})
    succeeded = fields.Integer()
    failed = fields.Integer()
    skipped = fields.Integer(metadata={"description": "handled, closed or taken up by others meanwhile"})
    refused = fields.Integer(metadata={"description": "cannot be replayed; counts as a failure"})
    failures_in_row = fields.Integer()
    stop_after = fields.Integer()
    waiting_for = fields.String(allow_none=True, metadata={"description": "the code of an outage that holds it up"})
    waiting_until = Instant(allow_none=True)
    actor = fields.String()
    note = fields.String(allow_none=True)
    created_at = Instant()
    started_at = Instant(allow_none=True)
    ended_at = Instant(allow_none=True)
    cancelled_by = fields.String(allow_none=True)
    status_url = fields.String()


class BatchesQuery(PageQuery):
    state = one_of(BATCH_STATES)


class BatchesPage(Page):
    items = fields.List(fields.Nested(BatchSchema))


class BatchItemSchema(Wire):
    """One event of a batch. `left`: asked for when the batch was cancelled; the ledger goes on with it."""

    position = fields.Integer()
    event_id = fields.String()
    type = fields.String()
    org_id = OrgId(attribute="organization", allow_none=True)
    org_name = OrgName()
    created = Instant()
    state = one_of(ITEM_STATES)
    code = fields.String(allow_none=True, metadata={"description": "why it was skipped or refused"})
    job_id = fields.String(allow_none=True, metadata={"description": "of its replay"})
    outcome = fields.String(allow_none=True)
    error_class = fields.String(allow_none=True)
    error_message = Words(allow_none=True)
    begun_at = Instant(allow_none=True)
    ended_at = Instant(allow_none=True)


class BatchItemsQuery(PageQuery):
    state = one_of(ITEM_STATES)


class BatchItemsPage(Wire):
    items = fields.List(fields.Nested(BatchItemSchema), metadata={"description": "in the order of the batch"})
    limit = fields.Integer()
    next_cursor = fields.String(allow_none=True)


class BatchCancelledSchema(Wire):
    batch_id = fields.String()
    state = fields.String(metadata={"description": "cancelling: the item at hand is brought to its end first"})
    status_url = fields.String()
    changed = fields.List(FieldName())
    dry_run = fields.Boolean()
