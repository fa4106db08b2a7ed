"""Collects everything that a page shows of a content."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import text
from sqlmodel import Session

from producers.reporting.provenance import newest_row, provenance_lines
from producers.reporting.results import with_gives_reasons
from producers.web.access.people import Person
from producers.web.desk.claims import held_by
from producers.web.desk.shown import DetectorShown, Item, OpinionShown, ReviewShown, ScanShown, VerdictShown
from producers.web.desk.turns import BLIND, is_mine, values_of
from worker.database import Database, transaction
from worker.tables import ReviewKind, Stage, Statement, Verdict

__all__ = ["MAX_PLACES", "DetectorShown", "Item", "ReviewShown", "ScanShown", "VerdictShown", "item"]

MAX_PLACES = 200
MAX_EXTERNAL_IDS = 50

# The row of the detector that judged the content last. If the content was never flagged, its newest verdict.
_CONTENT = """
SELECT c.verdict, c.score, c.verdict_id, c.uri, c.scan_id, c.first_at, c.statement,
       c.verdict <> 'real' AND NOT c.superseded AS attention
FROM contents c WHERE c.sha256 = :sha256
ORDER BY c.superseded, c.last_at DESC LIMIT 1
"""
# A content that was never flagged may have no row there. Its verdicts say where it was found, and so lead to its
# findings.
_FOUND = """
SELECT f.verdict, f.score, f.verdict_id, f.uri, f.scan_id, NULL AS first_at, NULL AS statement, false AS attention
FROM findings f
WHERE f.uri = ANY(ARRAY(SELECT DISTINCT v.uri FROM verdicts v WHERE v.sha256 = :sha256)) AND f.sha256 = :sha256
  AND f.verdict IS NOT NULL AND f.verdict_id IS NOT NULL
ORDER BY f.decided_at DESC LIMIT 1
"""
_VERDICTS = """
SELECT v.id, v.detector_id, d.name AS detector_name, v.answer, v.score, v.uri, v.created_at, v.log_odds, v.explanation,
       v.completion, v.contradicts, v.cut_off, v.stage, v.first_score, v.width, v.height,
       verdict_under((SELECT s.policy FROM scans s WHERE s.id = CAST(:scan_id AS uuid)), v.score) AS verdict
FROM verdicts v JOIN detectors d ON d.id = v.detector_id
WHERE v.sha256 = :sha256
ORDER BY v.id DESC LIMIT 500
"""
_OPINIONS = """
SELECT o.verdict AS main_verdict, o.further_name AS detector_name, o.further_verdict AS verdict,
       o.further_score AS score, v.explanation, o.missing
FROM scans s JOIN second_opinions o ON o.partition = s.partition AND o.scan_id = s.id
LEFT JOIN verdicts v ON v.id = o.further_verdict_id
WHERE s.id = CAST(:scan_id AS uuid) AND o.uri = :uri AND o.sha256 = :sha256
"""
_SCAN = """
SELECT id, name, (policy ->> 'fake_from')::float AS fake_from, (policy ->> 'real_to')::float AS real_to
FROM scans WHERE id = CAST(:scan_id AS uuid)
"""
_DETECTOR = """
SELECT id, name, model, revision, prompt_revision, fingerprint, notice, description
FROM detectors WHERE id = :detector_id
"""
_REVIEWS = """
SELECT r.id, r.reviewer, r.kind, r.statement, r.reason_code, r.note, r.verdict, r.created_at, w.withdrawn_at
FROM reviews r LEFT JOIN withdrawals w ON w.review_id = r.id
WHERE r.sha256 = :sha256
ORDER BY r.created_at, r.id
"""
_PROVENANCE = newest_row(":sha256")
_STATUS = "SELECT statement, disputed FROM review_status WHERE sha256 = :sha256"
_IS_SECOND = f"SELECT FROM contents c, second_looks l WHERE c.sha256 = :sha256 AND {BLIND}"
# A content that was never flagged has no places there. Its verdicts say where it is.
_PLACES = """
SELECT uri, count(*) OVER () AS total
FROM (SELECT p.uri FROM content_places p WHERE p.sha256 = :sha256
      UNION SELECT v.uri FROM verdicts v WHERE v.sha256 = :sha256) AS known
ORDER BY uri LIMIT :limit
"""
_EXTERNAL_IDS = """
SELECT external_id FROM content_external_ids WHERE sha256 = :sha256 ORDER BY external_id LIMIT :limit
"""
_FOUND_AS = """
SELECT f.external_id FROM findings f JOIN scans s ON s.id = f.scan_id AND s.partition = f.partition
WHERE s.id = CAST(:scan_id AS uuid) AND f.uri = :uri AND f.external_id IS NOT NULL
"""
_NOT_CALIBRATED: Mapping[str, Any] = {"slope": 1.0, "offset": 0.0, "knots": None, "fitted_on": None, "images": None}


def item(database: Database, person: Person, sha256: str) -> Item | None:
    """Returns what a page shows of a content to this person, or None if no detector has judged it."""
    given = {**values_of(person), "sha256": sha256}
    with transaction(database) as session:
        flagged = next(iter(_rows(session, _CONTENT, given)), None)
        found = flagged or next(iter(_rows(session, _FOUND, given)), None)
        given |= {"scan_id": found["scan_id"] if found else None, "limit": MAX_PLACES}
        verdicts = _rows(session, _VERDICTS, given)
        if not verdicts:
            return None
        shown = next((one for one in verdicts if found and one["id"] == found["verdict_id"]), verdicts[0])
        given["uri"] = found["uri"] if found else shown["uri"]
        second = session.execute(text(_IS_SECOND), given).first() is not None
        places = session.execute(text(_PLACES), given).all()
        return Item(
            sha256=sha256,
            **_finding(found, shown),
            flagged=flagged is not None,
            **_answer(shown),
            scan=_scan(session, given),
            external_ids=_external_ids(session, given),
            detector=_detector(session, shown),
            verdicts=[_verdict(one) for one in verdicts],
            **_opinions(session, given),
            **_said(session, given, hidden=second),
            waits=bool(found and found["attention"] and found["statement"] is None),
            waits_for_person=is_mine(session, person, sha256),
            second_look=second,
            places=[row.uri for row in places],
            places_total=places[0].total if places else 0,
            held=held_by(session, sha256),
            provenance=provenance_lines(next(iter(_rows(session, _PROVENANCE, given)), None)),
        )


def _rows(session: Session, query: str, given: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [dict(row) for row in session.execute(text(query), given).mappings()]


def _finding(found: dict[str, Any] | None, shown: dict[str, Any]) -> dict[str, Any]:
    """Returns the values of the newest finding or, without one, of the newest verdict."""
    source = found or shown | {"verdict_id": shown["id"], "first_at": None}
    return {
        "uri": source["uri"],
        "verdict": source["verdict"] and Verdict(source["verdict"]),
        "score": source["score"],
        "verdict_id": source["verdict_id"],
        "first_at": source["first_at"],
    }


def _answer(shown: Mapping[str, Any]) -> dict[str, Any]:
    names = ("answer", "log_odds", "explanation", "completion", "contradicts", "cut_off", "first_score", "width",
             "height")  # fmt: skip
    stage = shown["stage"] and Stage(shown["stage"])
    return {name: shown[name] for name in names} | {"stage": stage, "judged_at": shown["created_at"]}


def _opinions(session: Session, given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the second opinions at the place that is shown."""
    rows = _rows(session, _OPINIONS, given)
    names = ("detector_name", "score", "explanation", "missing")
    return {
        "main_verdict": Verdict(rows[0]["main_verdict"]) if rows else None,
        "opinions": [
            OpinionShown(**{name: row[name] for name in names}, verdict=row["verdict"] and Verdict(row["verdict"]))
            for row in rows
        ],
    }


def _scan(session: Session, given: Mapping[str, Any]) -> ScanShown | None:
    row = session.execute(text(_SCAN), given).first()
    return ScanShown(*row) if row else None


def _external_ids(session: Session, given: Mapping[str, Any]) -> list[str]:
    """Puts the verdict of the finding first."""
    limit = {"limit": MAX_EXTERNAL_IDS}
    found = [*session.execute(text(_FOUND_AS), given).scalars()]
    return list(dict.fromkeys([*found, *session.execute(text(_EXTERNAL_IDS), {**given, **limit}).scalars()]))


def _detector(session: Session, shown: Mapping[str, Any]) -> DetectorShown:
    row = dict(session.execute(text(_DETECTOR), {"detector_id": shown["detector_id"]}).mappings().one())
    description = row.pop("description") or {}
    # Prompts and calibrations of a cascade belong to the stage that gave the verdict.
    description = description.get("first" if shown["stage"] == Stage.FIRST else "judge", description)
    prompt = (description.get("prompts") or {}).get(row["prompt_revision"])
    calibration = description.get("calibration") or {}
    return DetectorShown(**with_gives_reasons(row), prompt=prompt, **_calibration(calibration))


def _calibration(given: Mapping[str, Any]) -> dict[str, Any]:
    if all(given.get(name, plain) == plain for name, plain in _NOT_CALIBRATED.items()):
        return {"calibrated": False, "calibration": None}
    told = "isotonic regression" if given.get("knots") else "Platt scaling"
    if given.get("images"):
        told += f" on {given['images']} images"
    if given.get("fitted_on"):
        told += f" of {given['fitted_on']}"
    if given.get("error_after") is not None:
        told += f"; the score was off by {given['error_after']:.1%} on average on other images"
    return {"calibrated": True, "calibration": told}


def _verdict(row: Mapping[str, Any]) -> VerdictShown:
    names = ("id", "detector_id", "detector_name", "answer", "score", "uri", "created_at")
    verdict = row["verdict"] and Verdict(row["verdict"])
    return VerdictShown(**{name: row[name] for name in names}, verdict=verdict)


def _said(session: Session, given: Mapping[str, Any], *, hidden: bool) -> dict[str, Any]:
    """Returns what people said, unless it is withheld."""
    if hidden:
        return {"reviews": [], "reviews_hidden": True, "statement": None, "disputed": False}
    status = session.execute(text(_STATUS), given).first()
    return {
        "reviews": [_review(row) for row in _rows(session, _REVIEWS, given)],
        "reviews_hidden": False,
        "statement": Statement(status.statement) if status and status.statement else None,
        "disputed": bool(status and status.disputed),
    }


def _review(row: Mapping[str, Any]) -> ReviewShown:
    kinds = {
        "kind": ReviewKind(row["kind"]),
        "statement": row["statement"] and Statement(row["statement"]),
        "verdict": row["verdict"] and Verdict(row["verdict"]),
    }
    return ReviewShown(**{**row, **kinds})
