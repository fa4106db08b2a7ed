"""Reads the results of a round: findings and counters from Postgres, dead letters from the broker."""

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from kombu import Connection
from psycopg.rows import dict_row

from tests.chaos.ledger import Row
from worker import broker


@dataclass(frozen=True)
class Books:
    """What Postgres says about some scans. `scans`: their rows, by id. `rows`: their findings."""

    scans: Mapping[str, Mapping[str, Any]]
    rows: list[Row]

    def of(self, scan_id: str) -> list[Row]:
        """Returns the findings of one scan."""
        return [row for row in self.rows if row.scan_id == scan_id]


def books_of_scan(url: str, source: str) -> Books:
    """Returns the books of the scan of this source."""
    return _books(url, "SELECT * FROM scans WHERE source = %s", source)


def books_of_submissions(url: str, prefix: str) -> Books:
    """Returns the books of the submissions whose images are under this prefix. Each submission is a scan."""
    there = "SELECT 1 FROM findings WHERE scan_id = scans.id AND starts_with(uri, %s)"
    return _books(url, f"SELECT * FROM scans WHERE kind = 'live' AND EXISTS ({there})", prefix)


def _books(url: str, query: str, value: str) -> Books:
    findings = "SELECT scan_id::text, uri, outcome, verdict, reason FROM findings WHERE scan_id::text = ANY(%s)"
    with psycopg.connect(url, row_factory=dict_row, connect_timeout=3) as connection:
        scans = {str(row["id"]): row for row in connection.execute(query, (value,)).fetchall()}
        rows = connection.execute(findings, (list(scans),)).fetchall()
    return Books(scans, [Row(**row) for row in rows])


def verdicts(url: str) -> tuple[int, int]:
    """Returns the number of verdicts, and the number of contents that have one.

    Because of a fault, a content may have been judged again. That is the difference.
    """
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*), count(DISTINCT sha256) FROM verdicts").fetchone()
    assert row
    return row[0], row[1]


def dead_letters(url: str) -> list[str]:
    """Takes all dead letters out of their queue, and returns them as text."""
    found: list[str] = []
    with Connection(url) as connection:
        queue = broker.dead_queue()(connection.default_channel)
        queue.declare()
        while message := queue.get():
            body = message.body
            found.append(body.decode(errors="replace") if isinstance(body, bytes) else str(body))
            message.ack()
    return found


def unforeseen(logs: Iterable[Path]) -> list[str]:
    """Returns the unexpected errors that our own code logged. A dead engine is expected: the suite causes it."""
    found = []
    for log in logs:
        for line in log.read_text(errors="replace").splitlines():
            with suppress(ValueError):
                entry = json.loads(line)
                ours = str(entry.get("logger", "")).startswith("worker.") and entry.get("event") != "engine_dead"
                if ours and entry.get("level") in {"error", "critical"}:
                    found.append(f"{entry['event']}: {str(entry.get('exception', '')).strip().splitlines()[-1:]}")
    return found
