"""What is stored: one MongoEngine document per noun, and nothing that decides."""

from .admin_action import AdminAction
from .admin_operation import AdminOperation
from .admin_user import AdminUser
from .dispatch_pause import DispatchPause
from .extra_balance import ExtraBalance
from .finding import Finding
from .import_item import ImportItem
from .import_run import ImportRun
from .job_run import JobRun
from .ledger_entry import LedgerEntry
from .login_throttle import LoginThrottle
from .open_alert import OpenAlert
from .organization import Organization
from .outbox import OutboxSignal
from .reconciliation_candidate import ReconciliationCandidate
from .reconciliation_run import ReconciliationRun, Unreceived
from .refund_request import RefundRequest
from .replay_batch import ReplayBatch, ReplayItem
from .revocation import Revocation
from .scan_run import ScanRun, ScanWindow
from .service_state import ServiceState
from .store import (
    EPOCH,
    MAJORITY,
    STORE_ERRORS,
    IndexDifference,
    IndexRefused,
    compare_indexes,
    connect,
    database_now,
    default_write_concern,
    denial_of,
    driver_error,
    drop_indexes,
    ensure_indexes,
    in_transaction,
    patient_for,
    ping,
    server_version,
)
from .subscription import Candidate, Override, Subscription
from .usage_record import UsageRecord
from .usage_week import UsageWeek, week_of, week_start
from .watermark import Watermark
from .webhook_event import Attempt, WebhookEvent

DOCUMENTS = (
    Organization,
    Subscription,
    WebhookEvent,
    AdminOperation,
    AdminAction,
    OutboxSignal,
    Finding,
    ServiceState,
    JobRun,
    Watermark,
    DispatchPause,
    OpenAlert,
    ReconciliationRun,
    ReconciliationCandidate,
    ImportRun,
    ImportItem,
    AdminUser,
    Revocation,
    LoginThrottle,
    RefundRequest,
    LedgerEntry,
    ExtraBalance,
    UsageWeek,
    UsageRecord,
    ReplayBatch,
    ReplayItem,
)

# Indexes of earlier versions: they would refuse what this one writes, or others have taken their place.
RETIRED_INDEXES = (
    ("outbox", "transition"),
    ("webhook_events", "state_received"),
    ("webhook_events", "expires_at"),
    ("findings", "state_newest"),
    ("webhook_events", "dead_fingerprint"),
    ("webhook_events", "organization_created"),
    ("subscriptions", "weekly_reset"),
)

__all__ = [
    "DOCUMENTS",
    "EPOCH",
    "MAJORITY",
    "RETIRED_INDEXES",
    "STORE_ERRORS",
    "AdminAction",
    "AdminOperation",
    "AdminUser",
    "Attempt",
    "Candidate",
    "DispatchPause",
    "ExtraBalance",
    "Finding",
    "ImportItem",
    "ImportRun",
    "IndexDifference",
    "IndexRefused",
    "JobRun",
    "LedgerEntry",
    "LoginThrottle",
    "OpenAlert",
    "Organization",
    "OutboxSignal",
    "Override",
    "ReconciliationCandidate",
    "ReconciliationRun",
    "RefundRequest",
    "ReplayBatch",
    "ReplayItem",
    "Revocation",
    "ScanRun",
    "ScanWindow",
    "ServiceState",
    "Subscription",
    "Unreceived",
    "UsageRecord",
    "UsageWeek",
    "Watermark",
    "WebhookEvent",
    "compare_indexes",
    "connect",
    "database_now",
    "default_write_concern",
    "denial_of",
    "driver_error",
    "drop_indexes",
    "ensure_indexes",
    "in_transaction",
    "patient_for",
    "ping",
    "server_version",
    "week_of",
    "week_start",
]
