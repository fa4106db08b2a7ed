"""Reads what came of a round: findings and counters from Postgres, dead letters from the broker."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from kombu import Connection
from psycopg.rows import dict_row

from tests.chaos.ledger import Row
from worker import broker
from worker.messages import DEAD_QUEUE, LIVE_QUEUE, SCAN_QUEUE


@dataclass(frozen=True)
class Books:
    """Of scans whose source or uris begin with a prefix. `scans` by id; `rows` are their findings."""

    scans: Mapping[str, Mapping[str, Any]]
    rows: list[Row]

    def of(self, scan_id: str) -> list[Row]:
        """The findings of a scan."""
        return [row for row in self.rows if row.scan_id == scan_id]


def books_of_scan(url: str, source: str) -> Books:
    """Of the scan of this source."""
    return _books(url, "SELECT * FROM scans WHERE source = %s", source)


def books_of_submissions(url: str, prefix: str) -> Books:
    """Of the submissions of images under this prefix: each is a scan."""
    there = "SELECT 1 FROM findings WHERE scan_id = scans.id AND starts_with(uri, %s)"
    return _books(url, f"SELECT * FROM scans WHERE kind = 'live' AND EXISTS ({there})", prefix)


def _books(url: str, query: str, value: str) -> Books:
    findings = "SELECT scan_id::text, uri, outcome, verdict, reason FROM findings WHERE scan_id::text = ANY(%s)"
    with psycopg.connect(url, row_factory=dict_row, connect_timeout=3) as connection:
        scans = {str(row["id"]): row for row in connection.execute(query, (value,)).fetchall()}
        rows = connection.execute(findings, (list(scans),)).fetchall()
    return Books(scans, [Row(**row) for row in rows])


def verdicts(url: str) -> tuple[int, int]:
    """(verdicts, contents that were judged): the difference was judged in vain, because of a fault."""
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*), count(DISTINCT sha256) FROM verdicts").fetchone()
    assert row
    return row[0], row[1]


def dead_letters(url: str) -> list[str]:
    """The dead letters, as text; they are taken away."""
    found: list[str] = []
    with Connection(url) as connection:
        queue = broker.dead_queue()(connection.default_channel)
        queue.declare()
        while message := queue.get():
            body = message.body
            found.append(body.decode(errors="replace") if isinstance(body, bytes) else str(body))
            message.ack()
    return found


def waiting(url: str) -> int:
    """Messages in the work queues, not counting those that workers hold."""
    with Connection(url) as connection:
        return sum(broker.waiting(connection.default_channel, queue) for queue in (LIVE_QUEUE, SCAN_QUEUE))
