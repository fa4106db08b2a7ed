"""What a package leaves out: what came later, what was forgotten, and the parts of evaluations that name pictures."""

from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from producers.audit.building import build, snapshot
from producers.audit.evaluations import copy_evaluations
from producers.audit.manifest import LONGEST_PATH, described
from producers.audit.selection import Selection
from producers.audit.signing import make_key, signer_with
from producers.audit.verifying import verify
from producers.forgetting import find_picture, forget
from tests.packages import scanned
from worker.database import Database, transaction
from worker.errors import UsageError


def test_a_package_says_what_was_forgotten(database: Database, tmp_path: Path) -> None:
    scan = scanned(database)
    make_key(tmp_path / "key")
    signer, output = signer_with(tmp_path / "key"), tmp_path / "package.zip"
    assert build(database, Selection(scan_id=scan.id), signer, output).notes == ()
    for number in (20, 21):  # both places of one content
        forget(database, find_picture(database, f"s3://b/{number:03}"))
    notes = build(database, Selection(scan_id=scan.id), signer, output).notes
    assert "2 findings are about pictures that were forgotten" in notes[0]
    assert "1 verdicts have no explanation any more" in notes[1]
    assert verify(output, signer.public).predicate["notes"] == list(notes)
    # Somebody who knows the uri gets what was kept.
    assert build(database, Selection(uris=("s3://b/020",)), signer, output).rows["findings"] == 1


def test_a_folder_of_an_evaluation_gives_no_names_of_pictures(tmp_path: Path) -> None:
    source, folder = tmp_path / "evaluation", tmp_path / "package"
    source.mkdir()
    for name in ("run.json", "metrics.json", "report.html", "predictions.jsonl"):
        (source / name).write_text("{}")
    copy_evaluations([source], folder)
    assert {path.name for path in folder.rglob("*.*")} == {"run.json", "metrics.json"}


def test_names_of_evaluations_fit_a_manifest(tmp_path: Path) -> None:
    most = LONGEST_PATH - len("digests/evaluation/1/")
    for name in (".hidden ü.json", "a" * most):
        folder = tmp_path / f"package-{len(name)}"
        (tmp_path / name).write_text("{}")
        copy_evaluations([tmp_path / name], folder)
        (found,) = (path for path in folder.rglob("*") if path.is_file())
        described(f"digests/{found.relative_to(folder)}", found)
    (tmp_path / ("a" * (most + 1))).write_text("{}")
    with pytest.raises(UsageError, match=f"at most {most} characters: rename it"):
        copy_evaluations([tmp_path / ("a" * (most + 1))], tmp_path / "none")


def test_a_package_sees_one_state_of_all_tables(database: Database) -> None:
    scan = scanned(database, 12)
    count = text("SELECT count(*) FROM findings")
    with snapshot(database) as session:
        before = session.execute(count).scalar()
        with transaction(database) as other:
            other.execute(text("DELETE FROM findings WHERE scan_id = :scan"), {"scan": scan.id})
        assert session.execute(count).scalar() == before
        with pytest.raises(DBAPIError, match="read-only transaction"):
            session.execute(text("DELETE FROM findings"))
