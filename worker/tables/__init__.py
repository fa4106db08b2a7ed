"""Defines the tables. Migrations create them; a test fails if the two differ.

    detectors 1--n verdicts n--1 (sha256) 1--n objects
    scans     1--n findings n--1 verdicts
    reviewers 1--n reviews n--1 (sha256)   what people state that a content is, append-only
    provenance n--1 (sha256)               what a content says about its origin
    reviews   1--1 withdrawals             what their authors took back, append-only
    stacks    n--n detectors               how several detectors make one score, append-only
    makers    1--n verdicts                the software and the card that made them, append-only
    events, replaced_failures              who did what, and failures that were judged again, append-only
    claims, skips, second_looks, logins, api_tokens, idempotency_keys      the review desk and the API
    webhook_endpoints 1--n outbox          who is told of what, and what is still to be sent

The tables are made for 10^8 findings: `findings` is partitioned by list, with one partition per scan (`scan_…`) and
one per month for submissions (`live_2026_11`). So an old scan is dropped, and not deleted row by row.
"""

from worker.tables.columns import NAMING
from worker.tables.desk import ApiToken, Claim, IdempotencyKey, Login, Look, Scope, SecondLook, Skip
from worker.tables.events import RECORDED, Event, EventKind, Maker, ReplacedFailure
from worker.tables.findings import NO_PROMPT, Detector, Finding, Outcome, Stage, StoredObject, StoredVerdict, Verdict
from worker.tables.kept import ContentExternalId, ContentHistory, ContentPlace, DailyStages, FlaggedDaily, HourlyCount
from worker.tables.provenance import ContentProvenance
from worker.tables.reviews import (
    ContentReviews,
    DeskRole,
    Review,
    ReviewedVerdict,
    Reviewer,
    ReviewKind,
    Statement,
    Withdrawal,
)
from worker.tables.scans import MessageTry, Repaired, Scan, ScanStatus, Suspect, Unpublished
from worker.tables.similarity import ContentHash
from worker.tables.stacks import StackChoice, StoredStack
from worker.tables.webhooks import MessageState, OutboxMessage, WebhookEndpoint, WebhookKind

__all__ = [
    "NAMING",
    "NO_PROMPT",
    "RECORDED",
    "ApiToken",
    "Claim",
    "ContentExternalId",
    "ContentHash",
    "ContentHistory",
    "ContentPlace",
    "ContentProvenance",
    "ContentReviews",
    "DailyStages",
    "DeskRole",
    "Detector",
    "Event",
    "EventKind",
    "Finding",
    "FlaggedDaily",
    "HourlyCount",
    "IdempotencyKey",
    "Login",
    "Look",
    "Maker",
    "MessageState",
    "MessageTry",
    "OutboxMessage",
    "Outcome",
    "Repaired",
    "ReplacedFailure",
    "Review",
    "ReviewKind",
    "ReviewedVerdict",
    "Reviewer",
    "Scan",
    "ScanStatus",
    "Scope",
    "SecondLook",
    "Skip",
    "StackChoice",
    "Stage",
    "Statement",
    "StoredObject",
    "StoredStack",
    "StoredVerdict",
    "Suspect",
    "Unpublished",
    "Verdict",
    "WebhookEndpoint",
    "WebhookKind",
    "Withdrawal",
]
