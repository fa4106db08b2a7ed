"""Says what each role of the database may do: `fakesweep roles` grants this and nothing else.

Nobody but the owner may truncate a table, change findings, or change or delete what is append-only: verdicts, reviews,
withdrawals, events, makers, stacks, their choices and replaced failures.
Partitions of `findings` and identity columns need no grants: a role that may write the table may also write them.
"""

from collections.abc import Mapping
from enum import StrEnum


class Role(StrEnum):
    """The roles; their names in Postgres begin with a prefix, as in `fakesweep_worker`."""

    OWNER = "owner"
    WORKER = "worker"
    PRODUCER = "producer"
    REVIEWER = "reviewer"
    DASHBOARD = "dashboard"
    WEB = "web"
    WEBHOOKS = "webhooks"


WORKER, PRODUCER, REVIEWER, DASHBOARD, WEB = Role.WORKER, Role.PRODUCER, Role.REVIEWER, Role.DASHBOARD, Role.WEB
WEBHOOKS = Role.WEBHOOKS

FIRST = (Role.OWNER, WORKER, PRODUCER, REVIEWER, DASHBOARD)
"""The roles of the first release that had roles. If a database has these, it has roles."""

INCLUDES: Mapping[Role, tuple[Role, ...]] = {WEB: (PRODUCER, REVIEWER)}
"""Roles that also have the rights of other roles: the review desk reviews, submits images and starts scans."""

_COUNTED = "judged, reused, failed, fake, uncertain, real, detector_ids"
_STATUS = "status, paused_from, note, finished_at, listed, policy"

TABLES: Mapping[str, Mapping[Role, str]] = {
    # Each process checks at start that the schema is the right one.
    "alembic_version": {WORKER: "SELECT", PRODUCER: "SELECT", REVIEWER: "SELECT", WEBHOOKS: "SELECT"},
    "detectors": {WORKER: "SELECT, INSERT, UPDATE (started_at, also_at, description, notice)", PRODUCER: "SELECT"},
    # Workers open submissions, count, and end or pause a scan. They fill in thresholds, which are in the policy.
    # Only the owner may change what a scan is, such as its source and its token.
    "scans": {
        WORKER: f"SELECT, INSERT, UPDATE ({_COUNTED}, {_STATUS}, rate, counted_at)",
        PRODUCER: f"SELECT, INSERT, UPDATE ({_COUNTED}, {_STATUS}, unchanged, unchanged_missing_opinions, cursor, "
        "skipped, skipped_by, max_flagged_share, max_failed_share, dropped_at)",
    },
    # Producers store what the newest scan says about an unchanged object.
    "objects": {WORKER: "SELECT, INSERT, UPDATE", PRODUCER: "SELECT, UPDATE (verdict, verdict_id, rule)"},
    "verdicts": {WORKER: "SELECT, INSERT", PRODUCER: "SELECT"},
    # DELETE: workers replace failed findings, producers drop a submission. The trigger findings_kept refuses the rest.
    "findings": {WORKER: "SELECT, INSERT, DELETE", PRODUCER: "SELECT, INSERT, DELETE"},
    "unpublished": {WORKER: "SELECT, INSERT, DELETE", PRODUCER: "SELECT, INSERT, DELETE"},
    "repaired": {WORKER: "SELECT, DELETE", PRODUCER: "SELECT, INSERT, DELETE"},
    # Producers delete the rows of scans that have ended.
    "suspects": {WORKER: "SELECT, INSERT, UPDATE (tries), DELETE", PRODUCER: "SELECT, DELETE"},
    "message_tries": {WORKER: "SELECT, INSERT, UPDATE (tries, started_at), DELETE", PRODUCER: "SELECT, DELETE"},
    # Triggers fill in the other columns. SELECT, because a stored review is returned.
    "reviews": {
        PRODUCER: "SELECT",
        REVIEWER: "SELECT, INSERT (scan_id, uri, sha256, verdict_id, statement, decision, kind, reason_code, note, "
        "reviewer, claim_id)",
    },
    # The export of labels leaves out withdrawn reviews. A trigger lets nobody withdraw the review of another person.
    "withdrawals": {PRODUCER: "SELECT", REVIEWER: "SELECT", WEB: "INSERT (review_id, reviewer)"},
    # Only the owner decides who may review, who logs in as whom, and who has a token.
    "reviewers": {WEB: "SELECT"},
    "logins": {WEB: "SELECT"},
    "api_tokens": {WEB: "SELECT"},
    "claims": {WEB: "SELECT, INSERT, UPDATE, DELETE"},
    "skips": {WEB: "SELECT, INSERT, UPDATE, DELETE"},
    "looks": {WEB: "SELECT, INSERT, UPDATE, DELETE"},
    "second_looks": {WEB: "SELECT, INSERT, DELETE"},
    "idempotency_keys": {WEB: "SELECT, INSERT, UPDATE (published_at), DELETE"},
    # A hash is written once. Workers mark those of contents that are fake or uncertain.
    "content_hashes": {WORKER: "SELECT, INSERT, UPDATE (in_question)", WEB: "SELECT"},
    # What a content says is written once for each revision of the reader. It may hold prompts and names of people, so
    # dashboards read the view, which leaves them out.
    "provenance": {WORKER: "SELECT, INSERT", PRODUCER: "SELECT"},
    # Triggers write events and replaced failures; `record_event` writes what no trigger sees.
    "events": {PRODUCER: "SELECT"},
    "makers": {WORKER: "SELECT, INSERT", PRODUCER: "SELECT"},
    "replaced_failures": {PRODUCER: "SELECT"},
    # Only the owner decides what makes a combined score.
    "stacks": {PRODUCER: "SELECT"},
    "stack_choices": {PRODUCER: "SELECT"},
    # It holds the secrets that sign webhooks. Only the owner adds endpoints; a sender disables one that is gone.
    "webhook_endpoints": {WEBHOOKS: "SELECT, UPDATE (disabled_at)"},
    # Triggers write it, with the owner's rights. INSERT: drift alarms, which no trigger sees.
    "outbox": {WEBHOOKS: "SELECT, INSERT, DELETE, UPDATE (state, attempts, due_at, ended_at, answer)"},
    # For `fakesweep flagged`. Triggers write this table and those below, with the owner's rights.
    "contents": {PRODUCER: "SELECT"},
    # Other places where a picture may be.
    "content_places": {PRODUCER: "SELECT", WEB: "SELECT"},
    "content_external_ids": {WEB: "SELECT"},
    "findings_hourly": {},
    "flagged_daily": {},
    "stages_daily": {},
    # For `fakesweep dsa report`.
    "reviewed_verdicts": {PRODUCER: "SELECT"},
    "content_reviews": {WEB: "SELECT"},
}
"""For each table: what each role may do with it. The owner may do everything."""

_EVERYBODY: Mapping[Role, str] = {DASHBOARD: "SELECT", REVIEWER: "SELECT"}

VIEWS: Mapping[str, Mapping[Role, str]] = {
    # Producers: `results`, `report` and `history`; `nightly` serves what waits, and the drift alarms, as metrics.
    "finding_details": {**_EVERYBODY, PRODUCER: "SELECT"},
    "flagged_findings": _EVERYBODY,
    "combined_scores": {**_EVERYBODY, PRODUCER: "SELECT"},
    # Producers: `results`, `report` and `status` of scans with second opinions.
    "second_opinions": {**_EVERYBODY, PRODUCER: "SELECT"},
    "disagreements": {**_EVERYBODY, PRODUCER: "SELECT"},
    "content_provenance": _EVERYBODY,
    "event_log": _EVERYBODY,
    "scan_progress": _EVERYBODY,
    "findings_by_hour": _EVERYBODY,
    "failures": _EVERYBODY,
    "contents_flagged": _EVERYBODY,
    "flagged_by_day": _EVERYBODY,
    "review_backlog": _EVERYBODY,
    "queue_age": {**_EVERYBODY, PRODUCER: "SELECT"},
    "review_queue": {**_EVERYBODY, PRODUCER: "SELECT"},
    "review_status": {**_EVERYBODY, PRODUCER: "SELECT"},
    "detector_quality": _EVERYBODY,
    "cascade_audits": {**_EVERYBODY, PRODUCER: "SELECT"},
    "cascade_alarms": {**_EVERYBODY, PRODUCER: "SELECT", WEBHOOKS: "SELECT"},
    "drift_shares": _EVERYBODY,
    "drift": {**_EVERYBODY, PRODUCER: "SELECT", WEBHOOKS: "SELECT"},
}
"""For each view. Views read with their owner's rights, so a reader needs no right on a table."""

FUNCTIONS: Mapping[str, tuple[Role, ...] | None] = {
    "ensure_findings_partition": (WORKER, PRODUCER),
    # For retention. The function refuses while a scan is running.
    "drop_findings_partition": (PRODUCER,),
    # Events that no trigger sees. The function refuses kinds that triggers write.
    "record_event": (PRODUCER,),
    # For `fakesweep forget`: only the owner removes what points to a picture.
    "forget_pictures": (),
    # Triggers that run with their owner's rights. Firing them needs no grant.
    "findings_added": (),
    "findings_removed": (),
    "findings_staged": (),
    "opinions_locked": (),
    "findings_differ": (),
    "contents_added": (),
    "review_checked": (),
    "review_stands": (),
    "withdrawal_checked": (),
    "review_withdrawn": (),
    "second_look_ended": (),
    "findings_named": (),
    "content_hashed": (),
    "contents_in_question": (),
    "scan_started": (),
    "scan_changed": (),
    "token_changed": (),
    "reviewer_changed": (),
    "login_changed": (),
    "detector_changed": (),
    "stack_chosen": (),
    "failures_replaced": (),
    "findings_to_outbox": (),
    "review_to_outbox": (),
    "scan_to_outbox": (),
    "webhook_changed": (),
    # These run with the rights of the caller.
    "findings_kept": None,
    "findings_of_dropped_refused": None,
    "scan_kept": None,
    "refuse_change": None,
    "bucket_of": None,
    "take_statement": None,
    "recount_reviews": None,
    "counted_reviews": None,
    "verdict_under": None,
    "detectors_differ": None,
    "stated_by": None,
    "week_of": None,
    "wilson_bound": None,
    "stacked_score": None,
    "forgotten_uri": None,
    "pdq_near_words": None,
}
"""For each function: who may call it. None means anybody."""
