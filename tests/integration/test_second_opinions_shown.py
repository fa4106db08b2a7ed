"""What `results`, `status`, the report, and the retry say about second opinions."""

import csv
import io
import json
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import text

from producers.audit.selection import Selection
from producers.forgetting import find_picture, forget
from producers.reporting import results
from producers.reporting.opinions import agreement_of
from producers.reporting.reports import write_report
from producers.stacks import store_stack
from tests.api import allowed
from tests.integration.test_second_opinions import ALL_SAID, job, started
from tests.processes import fakesweep
from tests.second_opinions import DIFFER, FURTHER, IMAGES, Two
from worker.database import Database, transaction
from worker.errors import UsageError
from worker.messages import Policy
from worker.moderate import moderate
from worker.stacking import Stack, Weighted
from worker.testing import scripted_description


@pytest.fixture
def two(database: Database) -> Two:
    return Two(database)


def test_each_line_of_results_has_the_second_opinions(database: Database, two: Two) -> None:
    scan = started(database, len(IMAGES) + 1)
    moderate(job(scan, *IMAGES, "s3://b/gone"), uuid4(), two.parts())
    lines = {line["uri"]: line for line in results.rows(database, scan.id)}
    assert lines["s3://b/gone"]["second_opinions"] == []
    for uri, (verdict, further, _, differs, _) in ALL_SAID.items():
        (one,) = lines[uri]["second_opinions"]
        assert (lines[uri]["verdict"], one["verdict"], lines[uri]["detectors_differ"]) == (verdict, further, differs)
        assert (one["detector"], one["missing"]) == (FURTHER, False)
    assert lines["s3://b/red"]["second_opinions"][0]["score"] == pytest.approx(1.0, abs=1e-3)


def test_findings_of_the_api_have_second_opinions_and_the_combined_score(database: Database, two: Two) -> None:
    scan = started(database)
    moderate(job(scan), uuid4(), two.parts())
    detectors = [
        Weighted(name=one.name, fingerprint=one.fingerprint, weight=1.0)
        for one in (scripted_description(), scripted_description(name=FURTHER))
    ]
    assert store_stack(database, Stack(name="both", offset=0.0, fake_from=0.9, real_to=0.1, detectors=tuple(detectors)))
    client = allowed(database)
    items = {one["uri"]: one for one in client.get(f"/scans/{scan.id}/findings").json()["items"]}
    lines = {line["uri"]: line for line in results.rows(database, scan.id)}
    assert items.keys() == lines.keys() == IMAGES.keys()
    for uri, item in items.items():
        for field in ("second_opinions", "detectors_differ", "combined"):
            assert item[field] == lines[uri][field], (uri, field)
    assert {uri for uri, item in items.items() if item["detectors_differ"]} == DIFFER
    assert items["s3://b/white"]["combined"]["verdict"] == "fake"
    assert items["s3://b/white"]["combined"]["from_elsewhere"] == []
    table = list(csv.DictReader(io.StringIO(client.get(f"/scans/{scan.id}/findings?format=csv").text)))
    assert {row["uri"] for row in table if row["detectors_differ"] == "True"} == DIFFER


def test_disagreements_alone(database: Database, two: Two) -> None:
    scan = started(database)
    moderate(job(scan), uuid4(), two.parts())
    assert {line["uri"] for line in results.rows(database, scan.id, disagreements=True)} == DIFFER
    found = {line["uri"] for line in results.rows(database, scan.id, disagreements=True, verdicts=["real"])}
    assert found == {"s3://b/red"}


def test_a_scan_without_second_opinions_has_lines_as_before(database: Database, two: Two) -> None:
    scan = started(database, policy=Policy())
    moderate(job(scan), uuid4(), two.parts())
    assert all("second_opinions" not in line for line in results.rows(database, scan.id))
    found = results.summary(database, scan.id)
    assert not {"disagreements", "missing_opinions"} & found.keys()
    assert "also" not in found["policy"]
    with pytest.raises(UsageError, match="asked for no second opinions"):
        list(results.rows(database, scan.id, disagreements=True))


def test_the_status_counts_disagreements_and_missing_opinions(database: Database, two: Two) -> None:
    scan = started(database)
    moderate(job(scan, "s3://b/white", "s3://b/black"), uuid4(), two.parts(holds_it=False))
    moderate(job(scan, "s3://b/red", "s3://b/cyan", "s3://b/grey", "s3://b/rose"), uuid4(), two.parts())
    found = results.summary(database, scan.id)
    assert (found["disagreements"], found["missing_opinions"]) == (2, 2)
    assert found["policy"]["also"] == [FURTHER]


def test_the_agreement_of_two_detectors(database: Database, two: Two) -> None:
    scan = started(database)
    moderate(job(scan, "s3://b/white"), uuid4(), two.parts(holds_it=False))
    moderate(job(scan, *(uri for uri in IMAGES if uri != "s3://b/white")), uuid4(), two.parts())
    (found,) = agreement_of(database, scan.id)
    assert (found.further, found.both, found.missing, found.differ, found.apart) == (FURTHER, 5, 1, 2, 3)
    # Both said the same of 2 of 5. By chance: fake 1/5 x 2/5, uncertain 2/5 x 1/5, real 2/5 x 2/5.
    assert found.kappa == pytest.approx((0.4 - 0.32) / (1 - 0.32))


def test_a_report_of_changes_counts_the_missing_opinions_of_unchanged_images(
    database: Database, two: Two, tmp_path: Path
) -> None:
    scan = started(database)
    moderate(job(scan), uuid4(), two.parts())
    page, found = tmp_path / "report.html", results.summary(database, scan.id)
    for record, missing, said in (("changes", 1, True), ("changes", 0, False), ("all", 1, False)):
        write_report(
            found | {"record": record, "missing_opinions": missing}, [], lambda _uri, _etag: b"", page,
            agreement=lambda: agreement_of(database, scan.id),
        )  # fmt: skip
        assert ("1 second opinion is missing in this scan, with those of unchanged images." in page.read_text()) == said


def test_the_report_shows_first_where_detectors_differ(database: Database, two: Two, tmp_path: Path) -> None:
    scan = started(database)
    moderate(job(scan), uuid4(), two.parts())
    page = tmp_path / "report.html"
    write_report(
        results.summary(database, scan.id),
        results.rows(database, scan.id),
        lambda uri, _etag: IMAGES[uri],
        page,
        agreement=lambda: agreement_of(database, scan.id),
    )
    written = page.read_text()
    second, flagged = written.index('id="second-title"'), written.index('id="flagged-title"')
    assert second < flagged
    shown = written[second:flagged]
    assert all((uri in shown) == (uri in DIFFER) for uri in IMAGES)
    assert "2 of 2 shown, highest score of any detector first." in shown
    assert "Cohen's kappa is 0.25" in shown.replace("&#39;", "'")
    assert f"Second opinion of {FURTHER}: fake, score 1.000" in shown


def test_the_commands(database: Database, database_url: str, two: Two) -> None:
    scan = started(database, name="night")
    moderate(job(scan), uuid4(), two.parts())
    services = {"DATABASE_URL": database_url}
    done = fakesweep("results", "night", "--disagreements", environment=services)
    assert {json.loads(line)["uri"] for line in done.stdout.splitlines()} == DIFFER
    assert "disagreements     2\n" in fakesweep("status", "night", environment=services).stdout


def test_the_scan_command_refuses_a_name_that_nobody_knows(database: Database, database_url: str, two: Two,
                                                           clean_redis_url: str, tmp_path: Path) -> None:  # fmt: skip
    two.parts()
    (tmp_path / "a.png").write_bytes(IMAGES["s3://b/red"])
    services = {"DATABASE_URL": database_url, "BROKER_URL": clean_redis_url}
    refused = fakesweep("scan", str(tmp_path), "--also", "nobody", environment=services)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "no worker has started with 'nobody'" in refused.stderr
    assert fakesweep("scan", str(tmp_path), "--also", FURTHER, environment=services).returncode == 0


def test_an_audit_package_holds_the_further_verdicts(database: Database, two: Two) -> None:
    scan = started(database)
    moderate(job(scan), uuid4(), two.parts())
    chosen = Selection(scan_id=scan.id)
    with database.connect() as connection:
        assert len(connection.execute(chosen.verdicts).all()) == 2 * len(IMAGES)
        assert len(connection.execute(chosen.detectors).all()) == 2


def test_forgetting_a_picture_forgets_what_the_further_detector_wrote(database: Database, two: Two) -> None:
    scan = started(database)
    moderate(job(scan), uuid4(), two.parts())
    uri = "s3://b/red"
    forget(database, find_picture(database, uri))
    with database.connect() as connection:
        rows = connection.execute(text("SELECT * FROM verdicts WHERE uri LIKE 'forgotten:%'")).mappings().all()
        assert len(rows) == 2
        assert {(row["completion"], row["explanation"]) for row in rows} == {("", None)}
        kept = connection.execute(text("SELECT uri, opinions FROM disagreements")).all()
        waits = connection.execute(text("SELECT uri FROM contents WHERE uri = :uri"), {"uri": uri}).all()
    assert uri not in {row.uri for row in kept}
    assert len(kept) == 2, "what was decided is kept"
    assert "s3://" not in json.dumps([row.opinions for row in kept]), "an opinion names no place"
    assert waits == []


def test_retention_keeps_the_verdicts_of_both_and_drops_the_findings(database: Database, two: Two) -> None:
    scan = started(database)
    moderate(job(scan), uuid4(), two.parts())
    with transaction(database) as session:
        session.execute(text("UPDATE scans SET dropped_at = now()"))
        session.execute(text("SELECT drop_findings_partition(:partition)"), {"partition": scan.partition})
    with database.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM verdicts")).scalar() == 2 * len(IMAGES)
        assert connection.execute(text("SELECT count(*) FROM second_opinions")).scalar() == 0
