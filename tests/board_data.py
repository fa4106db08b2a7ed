"""What the panels about cascades and second opinions show in tests: made-up counts, and scans with two detectors."""

from uuid import UUID, uuid4

import psycopg
from psycopg.rows import dict_row

from producers import scans
from tests.cascades import cascade_description
from tests.integration.test_cascade_alarms import count
from tests.second_opinions import FURTHER, IMAGES, Two
from worker.database import Database, connect, transaction
from worker.database.detectors import register_detector
from worker.messages import ImageRef, JudgeImages, Policy
from worker.moderate import moderate
from worker.tables import Scan, ScanStatus

ALSO = Policy(also=(FURTHER,))


def add_cascades(url: str) -> tuple[int, int]:
    """Adds the counts of two cascades: one that breaks its promise, and one without a promise or audits.

    Returns their numbers. Their names are "two" and "plain".
    """
    database = connect(url)
    broken = register_detector(database, cascade_description(clear={"audit_share": 0.01}).row())
    plain = register_detector(
        database, cascade_description(name="plain", clear={"up_to": 0.1, "max_miss_rate": None}).row()
    )
    database.dispose()
    with psycopg.connect(url, row_factory=dict_row, autocommit=True) as connection:
        count(connection, broken, 1, cleared=9900, audited=90, audited_flagged=10, judged=800, judged_flagged=200)
        count(connection, broken, 20, cleared=900, audited=100, judged=900, judged_flagged=100)
        count(connection, plain, 1, cleared=300, judged=60, judged_flagged=40)
    return broken, plain


def add_second_opinions(url: str) -> None:
    """Adds a scan by hand whose worker lacks the further detector, and one of a schedule whose detectors differ on two
    of six images. Two others must not be shown: one asks for no opinions, and one was dropped.
    """
    database = connect(url)
    two = Two(database)
    two.parts()
    # This one comes first, because it would reuse the opinions of the other one.
    _scanned(database, two, "lacking", holds_it=False)
    _scanned(database, two, "photos 1", schedule="photos")
    _scanned(database, two, "without", policy=Policy())
    gone = _scanned(database, two, "dropped")
    with transaction(database) as session:
        scan = session.get_one(Scan, gone)
        scan.dropped_at = scan.created_at
    database.dispose()


def _scanned(
    database: Database,
    two: Two,
    name: str,
    *,
    policy: Policy = ALSO,
    holds_it: bool = True,
    schedule: str | None = None,
) -> UUID:
    scan = scans.start_scan(database, scans.Listing(sources=("s3://b/",)), name=name, policy=policy)
    with transaction(database) as session:
        row = session.get_one(Scan, scan.id)
        row.listed, row.status, row.schedule = len(IMAGES), ScanStatus.RUNNING, schedule
        row.due_at = row.created_at if schedule else None
    parts = two.parts(holds_it=holds_it)
    moderate(JudgeImages(scan_id=scan.id, images=tuple(ImageRef(uri=uri) for uri in IMAGES)), uuid4(), parts)
    return scan.id
