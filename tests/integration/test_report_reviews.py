"""What a report says about reviews and about the detector, from a real Postgres."""

from pathlib import Path
from uuid import UUID

import pytest

from producers import reviews
from producers.reporting import results
from producers.reporting.reports import write_report
from producers.reporting.reviewed import reviewed
from producers.reviews import Stated
from tests.integration.test_scans import Archive, png
from worker.database import Database
from worker.detector.calibration import Calibration
from worker.errors import NoSuchScanError
from worker.tables import Statement

FAKE, REAL, UNCERTAIN = 250, 5, 128
"""Grey levels, named after the verdict of the scripted detector."""


@pytest.fixture
def archive(database: Database) -> Archive:
    for name in ("r1", "r2"):
        reviews.add_reviewer(database, name)
    made = Archive(database)
    levels = {"a": FAKE, "b": FAKE, "c": UNCERTAIN, "d": REAL}
    made.images = {f"s3://b/{name}": png(level, ord(name)) for name, level in levels.items()}
    made.images["s3://b/a-copy"] = made.images["s3://b/a"]
    return made


def state(archive: Archive, scan: UUID, name: str, statement: Statement, reviewer: str) -> None:
    reviews.review(archive.database, Stated(scan, f"s3://b/{name}", statement, reviewer))


def test_reviews_are_counted_by_content(archive: Archive) -> None:
    scan = UUID(archive.sweep()["scan"])
    sha256 = {uri.removeprefix("s3://b/"): row["sha256"] for uri, row in archive.rows(scan).items()}
    none = {"contents": 0, "fake": 0, "real": 0, "cannot_tell": 0, "disputed": 0, "open": 0}
    assert reviewed(archive.database, scan, sha256.values()).totals == {
        "fake": none | {"contents": 2, "open": 2}, "uncertain": none | {"contents": 1, "open": 1}
    }  # fmt: skip
    state(archive, scan, "a-copy", Statement.FAKE, "r1")
    state(archive, scan, "c", Statement.FAKE, "r1")
    state(archive, scan, "c", Statement.REAL, "r2")
    found = reviewed(archive.database, scan, [sha256["a"], sha256["b"]])
    assert found.totals == {
        "fake": none | {"contents": 2, "fake": 1, "open": 1}, "uncertain": none | {"contents": 1, "disputed": 1}
    }  # fmt: skip
    assert set(found.contents) == {sha256["a"]}
    assert found.contents[sha256["a"]]["statement"] == "fake"


def test_reviews_of_an_unknown_scan_are_refused(database: Database) -> None:
    with pytest.raises(NoSuchScanError):
        reviewed(database, UUID(int=7), [])


def test_a_report_is_written_from_the_database(archive: Archive, tmp_path: Path) -> None:
    scan = UUID(archive.sweep()["scan"])
    state(archive, scan, "a", Statement.REAL, "r1")
    output, database = tmp_path / "report.html", archive.database
    write_report(
        results.summary(database, scan),
        results.rows(database, scan),
        lambda uri, _: bytes(archive.images[uri]),  # type: ignore[arg-type]
        output,
        reviews=lambda sha256s: reviewed(database, scan, sha256s),
    )
    page = output.read_text()
    assert "3 of 3 shown, highest score first. Identical images stand together: 2 different ones." in page
    assert "<strong>People: real.</strong> 0 said fake, 1 real, 0 cannot tell; last on <time" in page
    assert page.count("data:image/jpeg;base64,") == 3
    assert "Not calibrated." in page


def test_the_summary_says_what_a_calibration_was_fitted_on(archive: Archive) -> None:
    fitted = Calibration(slope=0.5, offset=0.1, fitted_on="our archive", images=900, error_after=0.02)
    scan = UUID(archive.sweep(archive.parts(calibration=fitted))["scan"])
    (detector,) = results.summary(archive.database, scan)["detectors"]
    assert detector["calibration"] == {
        "fitted_on": "our archive", "images": 900, "error_before": None, "error_after": 0.02
    }  # fmt: skip
