"""Finds what people decided about a picture, so that a complaint finds its decision (Art. 20 DSA).

It reads reviews, which stay when the findings of a scan are dropped, and when a picture is forgotten.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import Row, text
from sqlmodel import Session

from producers.dsa.decisions import puid_of, steps
from producers.forgetting import SHA256
from worker.database import Database, transaction
from worker.messages import texts_of

_PUID = re.compile(r"fakesweep-(\d{1,18})-(\d{20})")

_BY_PUID = text("SELECT sha256, id, created_at FROM reviews WHERE id = :id")
_BY_URI = text("""
SELECT sha256 FROM findings WHERE uri = ANY(:places) AND sha256 IS NOT NULL
UNION SELECT sha256 FROM objects WHERE uri = ANY(:places)
UNION SELECT sha256 FROM reviews WHERE uri = ANY(:places) AND sha256 IS NOT NULL
UNION SELECT p.sha256 FROM (SELECT DISTINCT sha256 FROM reviews) r
      JOIN content_places p ON p.sha256 = r.sha256 AND p.uri = ANY(:places)
""")
"""`content_places` has no index on uri, and its key begins with sha256: only places of reviewed contents are read."""

_REVIEWS = text("""
SELECT r.id, r.sha256, r.kind, r.statement, r.reviewer, r.reason_code, r.created_at, w.review_id AS withdrawn
FROM reviews r LEFT JOIN withdrawals w ON w.review_id = r.id
WHERE r.sha256 = ANY(:contents) AND r.statement IS NOT NULL
ORDER BY r.sha256, r.created_at, r.id
""")


def is_reference(named: str) -> bool:
    """Whether this is the puid of a statement of reasons or the SHA-256 of a content, and not a uri."""
    return bool(_PUID.fullmatch(named) or SHA256.fullmatch(named))


def decisions_about(database: Database, named: str) -> list[dict[str, Any]]:
    """Returns what people decided about a picture, the newest first: one row for each review.

    `named`: a uri, the SHA-256 of the content, or the puid of a statement of reasons. `puid` is that of the statement
    of reasons that the review led to, or None.
    """
    with transaction(database) as session:
        rows = session.execute(_REVIEWS, {"contents": _contents(session, named)}).all()
    found = [row for _, reviews in groupby(rows, key=lambda row: str(row.sha256)) for row in _rows(list(reviews))]
    return sorted(found, key=lambda row: str(row["decided_at"]), reverse=True)


def _contents(session: Session, named: str) -> list[str]:
    if by_puid := _PUID.fullmatch(named):
        rows = session.execute(_BY_PUID, {"id": int(by_puid[1])}).all()
        return [row.sha256 for row in rows if row.sha256 and puid_of(row.id, row.created_at) == named]
    if SHA256.fullmatch(named):
        return [named]
    # A person whose picture was forgotten knows its uri, and the database knows the SHA-256 of the uri.
    return list(session.execute(_BY_URI, {"places": list(texts_of(named))}).scalars())


def _rows(reviews: Sequence[Row[Any]]) -> Iterator[dict[str, Any]]:
    standing = steps(row for row in reviews if row.withdrawn is None)
    puids = {step.review.id: puid_of(step.review.id, step.review.created_at) for step in standing if step.says_fake_now}
    for row in reviews:
        yield {
            "sha256": row.sha256,
            "statement": row.statement,
            "kind": row.kind,
            "reviewer": row.reviewer,
            "reason_code": row.reason_code,
            "decided_at": row.created_at.isoformat(),
            "withdrawn": row.withdrawn is not None,
            "puid": puids.get(row.id),
        }
