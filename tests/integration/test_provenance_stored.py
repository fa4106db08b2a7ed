"""The path stores what each content says about its origin, once for each revision of the reader."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlmodel import Session, col, select

from producers.reporting import results
from tests import provenance_files as files
from tests.integration.test_moderate import findings
from tests.integration.test_near_hashes import parts_of, sweep
from tests.provenance_files import CAPTURED, GENERATED, signed, signer
from worker.database import Database, transaction
from worker.provenance import C2paState, Camera, Credentials, Generator, Iptc, Provenance
from worker.provenance.isolated import IsolatedReader
from worker.provenance.trust import trust_lists
from worker.tables import ContentProvenance
from worker.testing import ScriptedProvenance

SAYS = Provenance(
    credentials=Credentials(C2paState.TRUSTED, signer="An Agency", source_types=(GENERATED,)),
    iptc=Iptc(source_type=CAPTURED, ai_prompt="a cat"),
    generator=Generator("ComfyUI", model="a model"),
    camera=Camera("Canon", "EOS R5"),
)
PNG, OTHER = files.plain("PNG"), files.plain("PNG", size=(70, 70))


def stored(database: Database) -> list[ContentProvenance]:
    with Session(database) as session:
        query = select(ContentProvenance).order_by(col(ContentProvenance.sha256), col(ContentProvenance.read_at))
        return list(session.exec(query))


def test_what_a_judged_image_says_is_stored(database: Database) -> None:
    reader = ScriptedProvenance({PNG: SAYS})
    parts = parts_of(database, {"s3://b/1": PNG, "s3://b/again": PNG, "s3://b/2": OTHER}, provenance=reader)
    sweep(database, parts, "s3://b/1", "s3://b/again", "s3://b/2")
    rows = {row.c2pa: row for row in stored(database)}
    assert set(rows) == {"trusted", "absent"}
    said = rows["trusted"]
    assert (said.declared, said.signer, said.source_type) == ("generated", "An Agency", GENERATED)
    assert (said.generator, said.camera, said.revision) == ("ComfyUI", "Canon EOS R5", "scripted")
    assert (rows["absent"].says, rows["absent"].declared) == (None, None)


def test_a_known_content_is_read_once_for_each_revision(database: Database) -> None:
    parts = parts_of(database, {f"s3://b/{n}": PNG for n in range(5)})
    sweep(database, parts, "s3://b/0")
    assert stored(database) == []
    first, second = ScriptedProvenance({PNG: SAYS}), ScriptedProvenance({}, revision="newer")
    for number, reader in enumerate((first, first, second, second), start=1):
        scan = sweep(database, replace(parts, provenance=reader), f"s3://b/{number}")
        assert findings(database, scan.id)[f"s3://b/{number}"].outcome == "reused"
    assert (len(first.read_files), len(second.read_files)) == (1, 1)
    assert [(row.revision, row.c2pa) for row in stored(database)] == [("scripted", "trusted"), ("newer", "absent")]
    with transaction(database) as session:
        newest = session.execute(text("SELECT c2pa, revision FROM content_provenance")).all()
    assert newest == [("absent", "newer")]


def test_what_an_image_says_is_stored_even_if_it_cannot_be_judged(database: Database) -> None:
    data = PNG[:60] + bytes(40)
    parts = parts_of(database, {"s3://b/1": data}, provenance=ScriptedProvenance({data: SAYS}))
    scan = sweep(database, parts, "s3://b/1")
    assert findings(database, scan.id)["s3://b/1"].outcome == "failed"
    assert [row.signer for row in stored(database)] == ["An Agency"]


def test_results_show_what_an_image_says(database: Database) -> None:
    parts = parts_of(database, {"s3://b/1": PNG, "s3://b/2": OTHER}, provenance=ScriptedProvenance({PNG: SAYS}))
    scan = sweep(database, parts, "s3://b/1", "s3://b/2")
    said, silent = (row["provenance"] for row in results.rows(database, scan.id))
    assert (said["c2pa"], said["declared"], said["signer"]) == ("trusted", "generated", "An Agency")
    assert said["says"]["iptc"]["ai_prompt"] == "a cat"
    assert (silent["c2pa"], silent["declared"], silent["says"]) == ("absent", None, None)
    (one,) = results.history(database, "s3://b/1")
    assert one["provenance"] == said


def test_a_finding_whose_origin_was_not_read_has_none(database: Database) -> None:
    scan = sweep(database, parts_of(database, {"s3://b/1": PNG}), "s3://b/1")
    (row,) = results.rows(database, scan.id)
    assert row["provenance"] is None


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[IsolatedReader]:
    own = tmp_path / "own.pem"
    own.write_text(signer("Listed").root)
    with IsolatedReader(trust_lists(own)) as made:
        yield made


def test_a_real_signed_file_goes_the_whole_way(database: Database, reader: IsolatedReader) -> None:
    data = signed("JPEG", signer("Listed"))
    scan = sweep(database, parts_of(database, {"s3://b/1": data}, provenance=reader), "s3://b/1")
    (row,) = results.rows(database, scan.id)
    said = row["provenance"]
    assert (said["c2pa"], said["declared"], said["signer"]) == ("trusted", "generated", "Listed")
    assert said["says"]["credentials"]["actions"] == ["c2pa.created"]
    assert row["verdict"] is not None
