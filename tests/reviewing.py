"""Contents that wait at the review desk, written as rows, and people who review them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import text

from producers.web.access.people import Person
from producers.web.desk import claims, deciding
from producers.web.desk.claims import Claimed
from producers.web.desk.deciding import Decided, Decision, SecondShare, Shown
from producers.web.desk.queue import Filters
from producers.web.reasons import Reasons, read_reasons
from tests.desk import person
from worker.database import Database
from worker.tables import DeskRole, Statement

SCAN, OTHER_SCAN = UUID(int=1), UUID(int=2)
ALL = Filters()
NEVER, ALWAYS = SecondShare(b"s" * 32, 0.0), SecondShare(b"s" * 32, 1.0)

_GROUND = """
WITH detector AS (
    INSERT INTO detectors (fingerprint, name, model, revision, prompt_revision, preprocessing_revision, dtype)
    SELECT 'f' || n, 'd' || n, 'm', 'r', 'p', 'q', 'float16' FROM generate_series(1, 2) n
)
INSERT INTO scans (id, kind, name, source, policy, partition, status, listed, skipped, judged, reused, failed,
                   fake, uncertain, real, dropped_at)
SELECT id, 'scan', 'scan ' || n, 's', '{"fake_from": 0.6, "real_to": 0.4}', 'p' || n, 'done', 0, 0, 0, 0, 0, 0, 0, 0,
       now()
FROM unnest(CAST(:scans AS uuid[])) WITH ORDINALITY AS given (id, n)
"""
_VERDICT = """
INSERT INTO verdicts (sha256, detector_id, uri, width, height, explain, answer, score, completion, contradicts,
                      prompt_tokens, completion_tokens, latency_ms)
VALUES (:sha256, :detector, :uri, 640, 480, 'all', CASE WHEN :score IS NULL THEN 'undecided' ELSE 'fake' END, :score,
        'This is a fake image.', false, 1, 1, 1) RETURNING id
"""
_CONTENT = """
INSERT INTO contents (sha256, detector_id, verdict, score, verdict_id, uri, scan_id, first_at, last_at, places)
VALUES (:sha256, :detector, CASE WHEN :score >= 0.6 THEN 'fake' ELSE 'uncertain' END, :score, :verdict, :uri, :scan,
        now() + make_interval(secs => :at), now(), 1)
"""
_ALIKE = """
INSERT INTO content_hashes (sha256, pdq, quality, in_question)
SELECT one, repeat('01', 128)::bit(256), 100, true FROM unnest(CAST(:contents AS text[])) one
ON CONFLICT (sha256) DO UPDATE SET in_question = true
"""
_NEWEST = "SELECT scan_id, uri, verdict_id FROM contents WHERE sha256 = :sha256 ORDER BY superseded LIMIT 1"


def sha256_of(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


@dataclass
class ReviewDesk:
    """A desk with two detectors, two scans whose findings were dropped, three reviewers and a lead."""

    database: Database
    people: dict[str, Person] = field(default_factory=dict)
    reasons: Reasons = field(default_factory=read_reasons)

    def __post_init__(self) -> None:
        with self.database.begin() as connection:
            connection.execute(text(_GROUND), {"scans": [SCAN, OTHER_SCAN]})
        for name in ("heron", "ibis", "crane"):
            self.person(name)
        self.person("lead", DeskRole.LEAD)

    def person(self, name: str, role: DeskRole = DeskRole.REVIEWER) -> Person:
        person(self.database, name, role)
        self.people[name] = Person(name, role)
        return self.people[name]

    def flag(self, name: str, score: float | None = 0.9, **more: Any) -> str:
        """Adds a content that waits. If two have the same score, the later one is younger."""
        given = {"sha256": sha256_of(name), "uri": f"s3://b/{name}", "score": score, "detector": 1, "scan": SCAN}
        given |= {"at": 0.0} | more
        with self.database.begin() as connection:
            verdict = connection.execute(text(_VERDICT.replace(":score", "CAST(:score AS float)")), given).scalar()
            content = _CONTENT.replace(":score", "CAST(:score AS float)")
            connection.execute(text(content), given | {"verdict": verdict})
        return str(given["sha256"])

    def next(self, name: str, filters: Filters = ALL, claim_s: float = 600) -> Claimed | None:
        return claims.next_content(self.database, self.people[name], filters, claim_s)

    def claim(self, name: str, content: str, claim_s: float = 600) -> Claimed:
        claimed = claims.claim(self.database, self.people[name], sha256_of(content), claim_s)
        assert isinstance(claimed, Claimed), claimed
        return claimed

    def decide(
        self, name: str, claimed: Claimed, statement: str = "fake", chance: SecondShare = NEVER, **more: Any
    ) -> Decided:
        row = self.row(_NEWEST, sha256=claimed.sha256)
        shown = more.pop("shown", Shown(*row.values()))
        decision = Decision(Statement(statement), **more)
        return deciding.decide(
            self.database, self.people[name], claimed.id, claimed.sha256, shown, decision, chance, self.reasons
        )

    def say(self, name: str, content: str, statement: str = "fake", chance: SecondShare = NEVER) -> Decided:
        """Claims a content and decides about it."""
        return self.decide(name, self.claim(name, content), statement, chance)

    def give_back(self, claimed: Claimed | None) -> None:
        """Ends a claim, as its expiry does."""
        with self.database.begin() as connection:
            connection.execute(text("DELETE FROM claims WHERE id = :id"), {"id": claimed and claimed.id})

    def alike(self, *names: str) -> None:
        """Makes contents near duplicates of each other."""
        with self.database.begin() as connection:
            connection.execute(text(_ALIKE), {"contents": [sha256_of(name) for name in names]})

    def rows(self, query: str, **values: Any) -> Sequence[dict[str, Any]]:
        with self.database.connect() as connection:
            return [dict(row) for row in connection.execute(text(query), values).mappings()]

    def row(self, query: str, **values: Any) -> dict[str, Any]:
        return self.rows(query, **values)[0]

    def one(self, query: str, **values: Any) -> Any:
        (value,) = self.row(query, **values).values()
        return value
