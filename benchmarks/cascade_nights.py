"""Nights of drawings through a cascade, the path of the worker and Postgres, until `cascade_alarms` has an alarm."""

import io
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import uuid4

import psycopg
from PIL import Image
from psycopg.rows import DictRow, dict_row
from sqlmodel import Session

from benchmarks.scratch import scratch_database
from producers import scans
from worker.database import Database, transaction
from worker.database.detectors import register_detector
from worker.detector.cascade import CascadeDetector
from worker.messages import MAX_IMAGES, ImageRef, JudgeImages, Policy
from worker.moderate import moderate
from worker.path import Parts
from worker.tables import Scan, ScanStatus
from worker.testing import InMemoryImageStore

IMAGES, KNOWN, NEW = 200, 4, 20
"""The images of a night, and how many of them are known fakes and fakes of the new family."""
QUIET, MOST = 7, 6
"""Nights without the new family, and the most nights with it."""
_YESTERDAY = """
SELECT cleared, audited, audited_flagged, judged_flagged, round(miss_rate::numeric, 4)::float AS miss_rate,
       round(false_alarm_chance::numeric, 9)::float AS false_alarm_chance, alarm
FROM cascade_alarms ORDER BY day DESC LIMIT 1
"""


def nights_in_postgres(
    cascade: CascadeDetector, real: Sequence[Image.Image], known: Sequence[Image.Image], new: Sequence[Image.Image]
) -> dict[str, Any]:
    """Scans nights of these drawings, each of them once, until the view raises the alarm or no night is left."""
    reals, fakes, of_new_family = iter(real), iter(known), iter(new)
    seen: list[DictRow] = []
    with (
        scratch_database() as (url, database),
        psycopg.connect(url, autocommit=True, row_factory=dict_row) as connection,
    ):
        for number in range(1 - QUIET, MOST + 1):
            added = NEW if number > 0 else 0
            drawings = [*_some(reals, IMAGES - KNOWN - added), *_some(fakes, KNOWN), *_some(of_new_family, added)]
            _scan(database, cascade, drawings)
            # A night passes: all counts become one day older.
            connection.execute("UPDATE stages_daily SET day = day - interval '24 hours'")
            seen += [{"night": number, **row} for row in connection.execute(_YESTERDAY)]
            if seen[-1]["alarm"]:
                break
    return {
        "images_a_night": IMAGES,
        "known_fakes": KNOWN,
        "new_family": NEW,
        "audited": cascade.description.clear.audit_share,
        "images_until_the_alarm": IMAGES * seen[-1]["night"] if seen[-1]["alarm"] else None,
        "nights": seen,
    }


def _some(images: Iterator[Image.Image], count: int) -> list[Image.Image]:
    return [next(images) for _ in range(count)]


def _scan(database: Database, cascade: CascadeDetector, drawings: Sequence[Image.Image]) -> None:
    """Judges the drawings as one scan, in messages as a producer sends them."""
    store = InMemoryImageStore({f"s3://nights/{uuid4()}.png": _png(one) for one in drawings})
    parts = Parts(store, database, cascade, register_detector(database, cascade.description.row()))
    refs = [ImageRef(uri=uri) for uri in store.objects]
    scan = scans.start_scan(database, scans.Listing(sources=("s3://nights/",)), policy=Policy())
    with transaction(database) as session:
        _run(session, scan, len(refs))
    for start in range(0, len(refs), MAX_IMAGES):
        moderate(JudgeImages(scan_id=scan.id, images=tuple(refs[start : start + MAX_IMAGES])), uuid4(), parts)


def _png(image: Image.Image) -> bytes:
    target = io.BytesIO()
    image.save(target, "PNG", compress_level=1)
    return target.getvalue()


def _run(session: Session, scan: Scan, listed: int) -> None:
    row = session.get_one(Scan, scan.id)
    row.listed, row.status = listed, ScanStatus.RUNNING
