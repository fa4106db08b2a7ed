"""How many SQL statements and commits does one message cost: with 16 new images, with 16 known ones, with 8 and 8?

    python -m benchmarks.statements

It uses a scripted engine and images in memory; only the database is real. Every image has another content. Known images
have the ETag under which they were judged in an earlier scan. Images seen elsewhere were judged under another uri:
nothing is known of them before they are fetched. BEGIN is not counted, and COMMIT is counted as a commit. A statement
that is sent for many rows one by one counts once for each row.
"""

import io
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from PIL import Image
from sqlalchemy import event

from benchmarks.comparison import Comparison, Wanted
from benchmarks.scratch import scratch_database, write_result
from producers.scans import Listing, start_scan
from worker.database import Database, transaction
from worker.database.detectors import register_detector
from worker.detector.vlm import VlmDetector
from worker.messages import ImageRef, JudgeImages
from worker.moderate import moderate
from worker.path import Parts
from worker.tables import Scan, ScanStatus
from worker.testing import InMemoryImageStore, ScriptedEngine, scripted_description

BEFORE = {
    "16 new": {"statements": 58, "commits": 19},
    "16 known": {"statements": 26, "commits": 3},
    "8 new and 8 known": {"statements": 42, "commits": 11},
    "16 seen elsewhere": {"statements": 42, "commits": 19},
    "1 new": {"statements": 13, "commits": 4},
    "1 known": {"statements": 11, "commits": 3},
}
"""The same messages at commit d6bb875, which asked for and saved images one by one."""

TARGETS = {"16 new": 12 / 58, "16 known": 5 / 26, "8 new and 8 known": 12 / 42}
"""12 and 5 statements, as shares of the earlier numbers."""


def main() -> None:
    with scratch_database() as (_url, database):
        figures = costs(database)
    write_result("statements", {"messages": figures, "before": BEFORE})


def compare(wanted: Wanted) -> Iterator[Comparison]:
    """Compares the statements of a message with those that it cost when images were handled one by one."""
    with scratch_database() as (_url, database):
        figures = costs(database)
    for kind, target in TARGETS.items():
        if wanted(name := f"statements.{kind.replace(' ', '_')}"):
            ours, before = float(figures[kind]["statements"]), float(BEFORE[kind]["statements"])
            yield Comparison(name, "statements per message", (ours,), (before,), target, higher_is_better=False)


def costs(database: Database) -> dict[str, dict[str, Any]]:
    """Returns for each kind of message: the outcomes of its images, and how many statements and commits it cost."""
    store = InMemoryImageStore({f"s3://b/{n}": _png(n) for n in range(64)})
    store.objects |= {f"s3://copies/{n}": _png(n) for n in range(16)}
    description = scripted_description()
    parts = Parts(
        store, database, VlmDetector(ScriptedEngine(), description), register_detector(database, description.row())
    )
    messages = {
        "16 new": [f"s3://b/{n}" for n in range(16)],
        "16 known": [f"s3://b/{n}" for n in range(16)],
        "8 new and 8 known": [f"s3://b/{n}" for n in range(8, 24)],
        "16 seen elsewhere": [f"s3://copies/{n}" for n in range(16)],
        "1 new": ["s3://b/40"],
        "1 known": ["s3://b/40"],
    }
    return {what: _cost_of(parts, database, uris) for what, uris in messages.items()}


def _cost_of(parts: Parts, database: Database, uris: list[str]) -> dict[str, Any]:
    """Counts the statements and commits of one message in a scan that is already open and continues after it."""
    scan = start_scan(database, Listing(sources=("s3://b/",)))
    with transaction(database) as session:
        row = session.get_one(Scan, scan.id)
        row.listed, row.status = 1_000_000, ScanStatus.RUNNING
    assert isinstance(parts.store, InMemoryImageStore)
    moderate(JudgeImages(scan_id=scan.id, images=(ImageRef(uri="s3://b/none"),)), uuid4(), parts)  # opens the scan
    refs = tuple(ImageRef(uri=uri, etag=parts.store.etag(uri)) for uri in uris)
    with counted(database) as counts:
        moderate(JudgeImages(scan_id=scan.id, images=refs), uuid4(), parts)
    with transaction(database) as session:
        row = session.get_one(Scan, scan.id)
        if row.judged + row.reused != len(uris):
            raise SystemExit(f"not every image has its verdict: {row}")
        outcomes = {"judged": row.judged, "reused": row.reused}
    return {
        **outcomes, "statements": counts.total() - counts["COMMIT"], "commits": counts["COMMIT"], "of": dict(counts),
    }  # fmt: skip


@contextmanager
def counted(database: Database) -> Iterator[Counter[str]]:
    """Counts the statements of the database while the body runs, by their first two words."""
    counts: Counter[str] = Counter()

    def execute(connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
        counts["COMMIT"] += connection.connection.driver_connection.autocommit
        counts[_named(statement)] += len(parameters) if many and isinstance(parameters, list) else 1

    def commit(_connection: Any) -> None:
        counts["COMMIT"] += 1

    event.listen(database, "before_cursor_execute", execute)
    event.listen(database, "commit", commit)
    try:
        yield counts
    finally:
        event.remove(database, "before_cursor_execute", execute)
        event.remove(database, "commit", commit)


def _named(statement: str) -> str:
    """Returns a name such as `INSERT INTO findings`, or `SELECT` with the first table that it reads."""
    words = statement.split()
    if words[0] == "SELECT" and "FROM" in words:
        return f"SELECT FROM {words[words.index('FROM') + 1]}"
    return " ".join(words[: 3 if words[0] in {"INSERT", "DELETE"} else 2])


def _png(number: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (336, 336), (number, 255 - number, 100)).save(file, "PNG")
    return file.getvalue()


if __name__ == "__main__":
    main()
