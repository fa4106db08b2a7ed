"""The counts by the hour and the history of contents are the same as a count over the raw rows."""

from collections import Counter
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlmodel import Session, SQLModel

from producers import retention, scans, submissions
from producers.testing import InMemoryPublisher
from tests.integration.test_scans import Archive, png
from worker.database import Database, transaction
from worker.errors import EngineGenerateError, ScanStateError
from worker.messages import ImageRef, JudgeImages, Policy, Record
from worker.moderate import moderate
from worker.path import Parts
from worker.testing import ScriptedEngine

_RAW = """
SELECT CASE WHEN s.kind = 'live' THEN NULL ELSE f.scan_id END AS scan_id, split_part(f.uri, '/', 3) AS bucket,
       v.detector_id, f.outcome, f.verdict, f.reason, floor(f.score * 20)::int AS bin,
       date_trunc('hour', f.decided_at, 'UTC') AS hour, count(*) AS findings
FROM findings f JOIN scans s ON s.id = f.scan_id LEFT JOIN verdicts v ON v.id = f.verdict_id
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
"""
_COUNTED = """
SELECT scan_id, bucket, detector_id, outcome, verdict, reason, round(score_from * 20)::int AS bin, hour, findings
FROM findings_by_hour
"""
_FLAGGED = """
SELECT f.sha256, v.detector_id, count(DISTINCT f.uri) AS places, min(f.decided_at) FILTER (WHERE f.verdict = 'fake'),
       max(f.decided_at) FILTER (WHERE f.verdict = 'fake')
FROM findings f JOIN verdicts v ON v.id = f.verdict_id WHERE f.verdict <> 'real' GROUP BY 1, 2
"""
_FIRST_FLAGGED = """
SELECT date_trunc('day', first_flagged_at, 'UTC'), detector_id, split_part(first_flagged_uri, '/', 3), count(*)
FROM contents WHERE first_flagged_at IS NOT NULL GROUP BY 1, 2, 3
"""
_BY_DAY = "SELECT day, detector_id, bucket, contents FROM flagged_by_day"
_HISTORY = "SELECT sha256, detector_id, places, first_flagged_at, last_flagged_at FROM contents"
_STANDS = """
WITH told AS (
    SELECT f.sha256, v.detector_id, f.verdict, f.decided_at FROM findings f JOIN verdicts v ON v.id = f.verdict_id
), newest AS (
    SELECT DISTINCT ON (sha256, detector_id) * FROM told
    ORDER BY sha256, detector_id, decided_at DESC, verdict = 'fake' DESC, verdict = 'uncertain' DESC
)
SELECT n.sha256, n.detector_id, n.verdict,
       EXISTS (SELECT FROM told o WHERE o.sha256 = n.sha256 AND o.decided_at > n.decided_at
               AND o.detector_id <> n.detector_id) AS superseded, 1
FROM newest n
WHERE EXISTS (SELECT FROM told o
              WHERE (o.sha256, o.detector_id) = (n.sha256, n.detector_id) AND o.verdict <> 'real')
"""
_KEPT = "SELECT sha256, detector_id, verdict, superseded, 1 FROM contents"
_UNEVEN = """
SELECT id, 1 FROM scans
WHERE judged + reused + unchanged + failed <> listed AND dropped_at IS NULL OR status <> 'done'
"""
SWEEPS: dict[str, dict[str, Any]] = {
    "audit": {}, "stricter": {"policy": Policy(fake_from=0.4)}, "rejudge": {"rejudge": True},
}  # fmt: skip
STEPS = (
    "new", "replace", "copy", "night", "audit", "stricter", "rejudge", "retry", "repair", "submit", "drop", "detector"
)  # fmt: skip


def counted(database: Database, query: str) -> Counter[tuple[Any, ...]]:
    with Session(database) as session:
        rows = session.execute(text(query)).all()
    return Counter({tuple(row[:-1]): row[-1] for row in rows})


class History:
    """An archive that changes step by step. `dropped` has the counts of findings that were dropped."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self.dropped: Counter[tuple[Any, ...]] = Counter()
        self.ended: list[UUID] = []
        self._number, self._failing, self._revision = 0, False, "1"
        archive.engine = ScriptedEngine(fail=self._fail)

    def _fail(self, image: Any) -> None:
        if self._failing and image.getpixel((19, 19))[0] % 2:
            raise EngineGenerateError("told to fail")

    def _picture(self) -> bytes:
        self._number += 1
        return png((250, 5, 128)[self._number % 3], self._number)

    def step(self, name: str) -> None:
        uris = sorted(self.archive.images)
        match name:
            case "new":
                self.archive.images[f"s3://{'ab'[self._number % 2]}/{self._number:05d}.png"] = self._picture()
            case "replace" if uris:
                self.archive.images[uris[0]] = self._picture()
            case "copy" if uris:
                self.archive.images[f"s3://copies/{self._number}"] = self.archive.images[uris[-1]]
            case "night":
                self._failing = True
                self._sweep(record=Record.CHANGES)
                self._failing = False
            case "audit" | "stricter" | "rejudge":
                self._sweep(**SWEEPS[name])
            case "detector":
                self._revision = "2" if self._revision == "1" else "1"
            case "retry" | "repair" | "drop" if self.ended:
                getattr(self, f"_{name}")(self.ended[-1])
            case "submit" if uris:
                job = JudgeImages(images=(ImageRef(uri=uris[0]),))
                moderate(job, uuid4(), self._parts())

    def _parts(self) -> Parts:
        return self.archive.parts(revision=self._revision)

    def _sweep(self, **options: Any) -> None:
        self.ended.append(UUID(self.archive.sweep(self._parts(), **options)["scan"]))

    def _retry(self, scan_id: UUID) -> None:
        publisher = InMemoryPublisher()
        submissions.retry(publisher, self.archive.database, scan_id, submissions.RETRYABLE)
        self.archive.judge(publisher, self._parts())

    def _repair(self, scan_id: UUID) -> None:
        scans.repair(self.archive.database, scan_id)
        self.archive.judge(self.archive.publish(scan_id), self._parts())

    def _drop(self, scan_id: UUID) -> None:
        before = counted(self.archive.database, _RAW)
        retention.drop_scan(self.archive.database, scan_id)
        self.dropped += before - counted(self.archive.database, _RAW)
        self.ended.remove(scan_id)


@settings(
    max_examples=25, deadline=None, phases=[Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(steps=st.lists(st.sampled_from(STEPS), min_size=4, max_size=14))
def test_counts_by_the_hour_equal_a_count_over_the_raw_rows(database: Database, steps: list[str]) -> None:
    empty(database)
    history = History(Archive(database))
    history.archive.fill(4)
    for name in steps:
        history.step(name)
        if not history.dropped:
            assert counted(database, _FLAGGED) == counted(database, _HISTORY)
            assert counted(database, _STANDS) == counted(database, _KEPT)
        assert counted(database, _RAW) + history.dropped == counted(database, _COUNTED)
        assert counted(database, _FIRST_FLAGGED) == counted(database, _BY_DAY)
        assert counted(database, _UNEVEN) == Counter()


def empty(database: Database) -> None:
    with transaction(database) as session:
        session.execute(text("SET LOCAL session_replication_role = replica"))  # reviews and verdicts are append-only
        for table in SQLModel.metadata.sorted_tables:
            session.execute(text(f"DELETE FROM {table.name}"))


def test_dropping_submissions_keeps_what_was_counted(database: Database) -> None:
    history = History(Archive(database))
    history.archive.fill(1)
    history.step("submit")
    before = counted(database, _COUNTED)
    with Session(database) as session:
        scan_id = session.execute(text("SELECT id FROM scans")).scalar_one()
    retention.drop_scan(database, scan_id)
    assert counted(database, _RAW) == Counter()
    assert counted(database, _COUNTED) == before
    assert sum(before.values()) == 1


def test_a_detector_that_calls_it_real_takes_a_content_off_the_list(database: Database) -> None:
    archive = Archive(database, {"s3://b/1.png": png(250)})
    archive.sweep(archive.parts())
    archive.engine = ScriptedEngine(lambda _image: 0.01)
    archive.sweep(archive.parts(revision="2"))
    with Session(database) as session:
        rows = session.execute(text("SELECT verdict, superseded FROM contents")).all()
    assert [tuple(row) for row in rows] == [("fake", True)]
    archive.engine = ScriptedEngine(lambda _image: 0.99)
    archive.sweep(archive.parts(revision="3"))
    with Session(database) as session:
        rows = session.execute(text("SELECT verdict, superseded FROM contents ORDER BY detector_id")).all()
    assert [tuple(row) for row in rows] == [("fake", True), ("fake", False)]


def test_a_scan_whose_findings_were_dropped_has_no_list(database: Database) -> None:
    from producers.reporting import contents

    archive = Archive(database, {"s3://b/1.png": png(250)})
    scan_id = UUID(archive.sweep()["scan"])
    retention.drop_scan(database, scan_id)
    with pytest.raises(ScanStateError, match="were dropped"):
        contents.flagged(database, contents.Wanted(scan_id=scan_id), 10)
    assert len(contents.flagged(database, contents.Wanted(), 10)) == 1
