"""What the format of audit packages forbids, in packages that are signed: whoever signs may be wrong, or lie."""

import base64
import io
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from producers.audit.building import build
from producers.audit.lines import json_bytes
from producers.audit.manifest import File, read_manifest
from producers.audit.selection import Selection
from producers.audit.signing import Signer, key_id, make_key, pem_of, signer_with
from producers.audit.spooling import ROW_GROUP
from producers.audit.statement import PAYLOAD_TYPE, Envelope, pae
from tests.packages import doubt, members, resigned, scanned, zipped
from worker.database import Database
from worker.errors import PackageDoubtError

Files = tuple[File, ...]


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    make_key(tmp_path / "key")
    return signer_with(tmp_path / "key")


@pytest.fixture
def package(database: Database, signer: Signer, tmp_path: Path) -> Path:
    build(database, Selection(scan_id=scanned(database, 12).id), signer, tmp_path / "package.zip")
    return tmp_path / "package.zip"


def renamed(new: str) -> Callable[[Files], Iterable[File]]:
    names = {"digests/summary.html": f"digests/{new}", "summary.html": new}
    return lambda files: [one.model_copy(update={"path": names.get(one.path, one.path)}) for one in files]


def test_a_manifest_names_the_digests_of_each_file_and_then_the_files(package: Path, signer: Signer) -> None:
    orders: list[Callable[[Files], Iterable[File]]] = [
        lambda files: files[1:],
        lambda files: files[:-1],
        lambda files: files[::-1],
        lambda files: (files[1], files[0], *files[2:]),
        lambda files: [
            one for pair in zip(files[: len(files) // 2], files[len(files) // 2 :], strict=True) for one in pair
        ],
    ]
    for order in orders:
        said = doubt(resigned(package, signer, listed=order), public_key=signer.public)
        assert "it must name the digests of each file" in said


def test_a_manifest_is_written_in_one_way_and_names_each_file_once(package: Path, signer: Signer) -> None:
    content = dict(members(package.read_bytes()))["manifest.json"]
    for other in (
        content.replace(b'"files":', b' "files":'),
        content.replace(b"{", b'{"files":[],', 1),
        content + b"\n",
    ):
        with pytest.raises(PackageDoubtError, match="it is not written as the format says"):
            read_manifest(other)
    twice = resigned(package, signer, listed=renamed("verdicts.jsonl"))
    assert "it names a file twice" in doubt(twice, public_key=signer.public)


def test_names_that_are_no_files_of_a_package(package: Path, signer: Signer) -> None:
    for name in ("a/../../x", "a/./x", "..", "a//b", "/a", "a/.b"):
        assert "it is no manifest" in doubt(resigned(package, signer, listed=renamed(name)))
    for name in ("manifest.json", "statement.dsse.json", "digests/x"):
        assert f"it must not name {name}" in doubt(resigned(package, signer, listed=renamed(name)))


def test_a_statement_can_be_read_in_one_way_only(package: Path, signer: Signer) -> None:
    files = members(package.read_bytes())
    payload = base64.b64decode(files[0][1].partition(b'"payload":"')[2].partition(b'"')[0])
    for other in (
        payload.replace(b'"notes":', b'"notes":["another"],"notes":', 1),
        payload.replace(b'"notes":[', b'"notes":[1e999', 1),
        payload.replace(b'"notes":[', b'"notes":["\\ud800"', 1),
        payload + b"\n",
    ):
        package.write_bytes(zipped([("statement.dsse.json", envelope(other, signer)), *files[1:]]))
        assert "it is not written as the format says" in doubt(package, public_key=signer.public)


def test_a_statement_names_exactly_the_files_of_the_manifest(package: Path, signer: Signer) -> None:
    files = members(package.read_bytes())
    statement = Envelope(files[0][1]).statement
    for subjects in (
        statement["subject"][:-1],
        [*statement["subject"], {"name": "more", "digest": {"sha256": "0" * 64}}],
        [statement["subject"][0], *statement["subject"][:0:-1]],
    ):
        changed = envelope(json_bytes(statement | {"subject": subjects}), signer)
        package.write_bytes(zipped([("statement.dsse.json", changed), *files[1:]]))
        assert "it does not name the files of the manifest" in doubt(package, public_key=signer.public)


def envelope(payload: bytes, signer: Signer) -> bytes:
    signature = base64.b64encode(signer.sign(pae(payload))).decode()
    signed = [{"keyid": key_id(signer.public), "sig": signature}]
    encoded = base64.b64encode(payload).decode()
    return json_bytes({"payload": encoded, "payloadType": PAYLOAD_TYPE, "signatures": signed}) + b"\n"


def test_the_key_that_a_statement_names_is_the_one_that_signed(package: Path, signer: Signer, tmp_path: Path) -> None:
    make_key(tmp_path / "other")
    other = pem_of(signer_with(tmp_path / "other").public).decode()
    changed = resigned(package, signer, predicate={"public_key": other})
    assert "the public key that it names is not the one that signed it" in doubt(changed, public_key=signer.public)


def test_columns_without_a_value_in_json_are_a_doubt(package: Path, signer: Signer) -> None:
    late = pa.array([(1 << 62)], pa.timestamp("us", tz="UTC"))
    fine = pa.array([1], pa.timestamp("ns", tz="UTC"))
    early = pa.array([datetime(1, 1, 1, tzinfo=UTC)], pa.timestamp("us", tz="-12:00"))
    for column in (pa.array([b"bytes"]), late, fine, early):
        made = io.BytesIO()
        pq.write_table(pa.table({"id": column}), made)
        changed = resigned(package, signer, contents={"findings.parquet": made.getvalue()})
        assert "findings.parquet: it cannot be read" in doubt(changed), column.type


def test_a_row_group_has_no_more_rows_than_the_format_allows(package: Path, signer: Signer) -> None:
    made = io.BytesIO()
    pq.write_table(pa.table({"id": list(range(ROW_GROUP + 1))}), made, row_group_size=ROW_GROUP + 1)
    changed = resigned(package, signer, contents={"findings.parquet": made.getvalue()})
    assert "a row group is larger than the format allows" in doubt(changed)
