"""Scans by their id, by the beginning of it, and by their name."""

from uuid import UUID

import pytest

from producers.scan_names import scan_named
from producers.scans import Listing, start_scan
from tests.processes import fakesweep
from worker.database import Database, transaction
from worker.errors import NoSuchScanError, UsageError
from worker.tables import Scan

ONE = UUID("0123abcd-0000-4000-8000-000000000001")
TWO = UUID("0123abcd-0000-4000-8000-000000000002")
OTHER = UUID("ffff0000-0000-4000-8000-000000000003")


@pytest.fixture
def named(database: Database) -> Database:
    with transaction(database) as session:
        for scan_id, name in ((ONE, "July audit"), (TWO, "photos"), (OTHER, "photos")):
            session.add(
                Scan(id=scan_id, kind="scan", name=name, source="s3://b/", policy={}, partition=name, status="running")
            )
    return database


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (str(ONE), ONE),
        (ONE.hex, ONE),
        ("ffff", OTHER),
        ("FFFF", OTHER),
        (" ffff0000-0000-4 ", OTHER),
        ("ffff00000000", OTHER),
        ("July audit", ONE),
    ],
)
def test_a_text_means_one_scan(named: Database, text: str, found: UUID) -> None:
    assert scan_named(named, text) == found


def test_a_whole_id_is_not_looked_up(named: Database) -> None:
    nobody = UUID("11111111-0000-4000-8000-000000000001")
    assert scan_named(named, str(nobody)) == nobody


@pytest.mark.parametrize("text", ["0123", "0123abcd", "photos"])
def test_if_several_scans_fit_all_are_named(named: Database, text: str) -> None:
    with pytest.raises(UsageError) as raised:
        scan_named(named, text)
    told = str(raised.value)
    assert f"{TWO} (photos)" in told
    assert (str(ONE) in told, str(OTHER) in told) == (text != "photos", text == "photos")


def test_if_many_scans_fit_the_newest_are_named(database: Database) -> None:
    ids = [start_scan(database, Listing(sources=("s3://b/",)), name="night").id for _ in range(7)]
    with pytest.raises(UsageError) as raised:
        scan_named(database, "night")
    told = str(raised.value)
    assert [str(one) in told for one in ids] == [False] * 2 + [True] * 5
    assert "and more" in told


@pytest.mark.parametrize(("text", "said"), [("", "is empty"), ("ff", "too short"), ("f-f-f", "too short")])
def test_a_text_that_is_too_short_is_refused(named: Database, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        scan_named(named, text)


@pytest.mark.parametrize("text", ["eeee", "July", "photo%", "z"])
def test_a_text_that_fits_no_scan_is_refused(named: Database, text: str) -> None:
    with pytest.raises(NoSuchScanError, match="fakesweep status"):
        scan_named(named, text)


@pytest.mark.parametrize(
    "command",
    [
        ("status", "SCAN"),
        ("pause", "SCAN"),
        ("resume", "SCAN"),
        ("cancel", "SCAN", "--yes"),
        ("repair", "SCAN"),
        ("retry", "SCAN"),
        ("results", "SCAN"),
        ("report", "SCAN", "--output", "/nowhere/report.html"),
        ("drop", "SCAN", "--yes"),
        ("flagged", "--scan", "SCAN"),
        ("export", "--output", "/nowhere", "--scan", "SCAN"),
    ],
    ids=lambda command: command[0],
)
def test_every_command_finds_its_scan_by_name(
    named: Database, database_url: str, clean_redis_url: str, command: tuple[str, ...]
) -> None:
    environment = {"DATABASE_URL": database_url, "BROKER_URL": clean_redis_url}
    arguments = ["photos" if part == "SCAN" else part for part in command]
    done = fakesweep(*arguments, environment=environment)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert f"{TWO} (photos)" in done.stderr
