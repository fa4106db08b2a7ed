"""Audit packages: what is in them, that each change is noticed, and that a verifier from the document alone agrees."""

import base64
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pyarrow.parquet as pq
import pytest
from google.protobuf.json_format import ParseDict
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement as InTotoStatement
from securesystemslib.dsse import Envelope as DsseEnvelope
from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]
from sqlalchemy import text

from producers.audit.building import build
from producers.audit.selection import Selection
from producers.audit.signing import Signer, make_key, public_key, signer_by, signer_with
from producers.audit.verifying import verify
from producers.retention import drop_scan
from tests.audit_verifier import check
from tests.packages import changes, doubt, members, resigned, scanned, zipped
from tests.processes import ROOT
from tests.roles import home, with_all_logins
from worker.database import Database, connect, transaction
from worker.errors import NoSuchScanError, UsageError
from worker.tables import Scan

CHANGES = 60


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    make_key(tmp_path / "key")
    return signer_with(tmp_path / "key")


@pytest.fixture
def scan(database: Database) -> Scan:
    return scanned(database)


@pytest.fixture
def package(database: Database, scan: Scan, signer: Signer, tmp_path: Path) -> Path:
    build(database, Selection(scan_id=scan.id), signer, tmp_path / "package.zip")
    return tmp_path / "package.zip"


def rows(package: Path, name: str) -> list[dict[str, object]]:
    with zipfile.ZipFile(package) as file:
        return [json.loads(line) for line in file.read(f"{name}.jsonl").splitlines()]


def test_a_package_holds_what_was_decided_and_by_whom(package: Path, scan: Scan, tmp_path: Path) -> None:
    verified = verify(package, public_key(tmp_path / "key.pub"))
    assert verified.predicate["selection"] == {"scan": str(scan.id), "uris": [], "since": None}
    with zipfile.ZipFile(package) as file:
        assert file.testzip() is None
        assert {info.compress_type for info in file.infolist()} == {zipfile.ZIP_STORED}
        everything = file.read("summary.html") + b"".join(file.read(name) for name in file.namelist())
    found = rows(package, "findings")
    assert [row["uri"] for row in found] == [f"s3://b/{n:03}" for n in range(24)]
    assert {row["outcome"] for row in found} == {"judged", "reused", "failed"}
    assert {row["verdict"] for row in found} == {"fake", "real", "uncertain", None}
    assert {row["verdict_id"] for row in found if row["verdict_id"]} == {row["id"] for row in rows(package, "verdicts")}
    assert rows(package, "scans")[0]["policy"] == {"explain": "flagged", "fake_from": 0.6, "real_to": 0.4}
    assert rows(package, "detectors")[0]["description"]
    assert rows(package, "calibrations")[0]["calibration"]
    assert [row["c2pa"] for row in rows(package, "provenance")] == ["absent"] * 12
    assert [row["reviewer"] for row in rows(package, "reviews")] == ["heron", "ibis"]
    assert [row["review_id"] for row in rows(package, "withdrawals")] == [rows(package, "reviews")[1]["id"]]
    assert {"scan_started", "reviewer_added"} <= {row["kind"] for row in rows(package, "events")}
    assert b"example.org" not in everything, "the table of logins links people with their pseudonyms"
    with zipfile.ZipFile(package) as file, file.open("findings.parquet") as columns:
        assert pq.read_table(columns).column("uri").to_pylist() == [row["uri"] for row in found]


def test_the_same_data_gives_the_same_bytes(
    database: Database, scan: Scan, package: Path, signer: Signer, tmp_path: Path
) -> None:
    built = build(database, Selection(scan_id=scan.id), signer, tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == package.read_bytes()
    with transaction(database) as session:
        query = text("SELECT details->>'sha256' FROM events WHERE kind = 'audit_built' ORDER BY id")
        assert set(session.execute(query).scalars()) == {built.sha256}


def test_each_change_is_noticed_and_its_place_named(package: Path, tmp_path: Path) -> None:
    whole, changed = package.read_bytes(), tmp_path / "changed.zip"
    key = public_key(tmp_path / "key.pub")
    check(whole, key)
    verify(package, key)
    for change in changes(whole, CHANGES):
        changed.write_bytes(change.package)
        said = doubt(changed, public_key=key)
        assert any(place in said for place in change.places), f"{change.what}: {said}"
        with pytest.raises(Exception):  # noqa: B017 - whatever goes wrong is a doubt
            check(change.package, key)


def test_rows_that_do_not_agree_are_named_though_they_are_signed(package: Path, signer: Signer) -> None:
    """Whoever signs may be wrong, too."""
    changed = resigned(package, signer, {"findings.jsonl": (b'"outcome":"judged"', b'"outcome":"reused"')})
    assert "findings.jsonl, line 1: row 1 of findings.parquet is another" in doubt(changed)
    changed = resigned(package, signer, {"reviews.jsonl": (b"\n", b"\n{}\n")})
    assert "reviews.jsonl: it has 3 rows, and the manifest says 2" in doubt(changed)


def test_other_programs_read_the_statement(package: Path, signer: Signer) -> None:
    content = json.loads(dict(members(package.read_bytes()))["statement.dsse.json"])
    keyid = content["signatures"][0]["keyid"]
    envelope = DsseEnvelope.from_dict(content)
    assert set(envelope.verify([SSlibKey.from_crypto(signer.public, keyid)], 1)) == {keyid}
    statement = InTotoStatement.copy_from_pb(ParseDict(json.loads(envelope.payload), statement_pb2.Statement()))
    statement.validate()
    assert statement.pb.subject[0].name == "manifest.json"


def test_packages_form_a_chain(database: Database, scan: Scan, package: Path, signer: Signer, tmp_path: Path) -> None:
    build(database, Selection(scan_id=scan.id), signer, tmp_path / "next.zip", after=verify(package).sha256)
    verify(tmp_path / "next.zip", after=package)
    assert "the package before it is not" in doubt(tmp_path / "next.zip", after=tmp_path / "next.zip")
    assert "the package before it is not" in doubt(package, after=package)


def test_uris_and_times_select_findings(
    database: Database, scan: Scan, package: Path, signer: Signer, tmp_path: Path
) -> None:
    output = tmp_path / "uris.zip"
    build(database, Selection(uris=("s3://b/003", "s3://b/022")), signer, output)
    verify(output)
    assert [row["uri"] for row in rows(output, "findings")] == ["s3://b/003", "s3://b/022"]
    assert len(rows(output, "reviews")) == 2
    with transaction(database) as session:
        times = session.execute(text("SELECT min(decided_at), max(decided_at) FROM findings")).one()
    for since, count in ((times[0], 24), (times[1], None)):
        build(database, Selection(since=since), signer, output)
        verify(output)
        assert len(rows(output, "findings")) == (count or len(rows(output, "findings"))) > 0
    with pytest.raises(NoSuchScanError):
        build(database, Selection(scan_id=uuid4()), signer, output)


def test_a_package_says_what_it_does_not_hold(
    database: Database, scan: Scan, package: Path, signer: Signer, tmp_path: Path
) -> None:
    with transaction(database) as session:
        session.execute(text("UPDATE scans SET listed = listed + 1, status = 'running', finished_at = NULL"))
    built = build(database, Selection(scan_id=scan.id), signer, tmp_path / "running.zip")
    assert "was running when this package was built" in built.notes[0]
    assert built.notes == tuple(verify(tmp_path / "running.zip").predicate["notes"])
    with transaction(database) as session:
        session.execute(text("UPDATE scans SET status = 'cancelled'"))
    drop_scan(database, scan.id)
    built = build(database, Selection(scan_id=scan.id), signer, tmp_path / "dropped.zip")
    assert "were dropped at" in built.notes[0]
    assert "1 listed images have no outcome" in built.notes[1]
    assert (built.rows["findings"], built.rows["verdicts"], built.rows["reviews"]) == (0, 1, 2)
    summary = dict(members((tmp_path / "dropped.zip").read_bytes()))["summary.html"].decode()
    assert built.notes[0].split(":")[0] in summary
    verify(tmp_path / "dropped.zip")


def test_a_producer_may_build_a_package(
    postgres_server_url: str, template: str, signer: Signer, tmp_path: Path
) -> None:
    with home(postgres_server_url, template) as made:
        with_all_logins(made)
        owner, producer = connect(made.url), connect(made.url_of("producer"))
        scan = scanned(owner, 12)
        build(producer, Selection(scan_id=scan.id), signer, tmp_path / "package.zip")
        with pytest.raises(UsageError, match="make it first"):
            build(producer, Selection(scan_id=scan.id), signer, tmp_path / "none" / "package.zip")
        owner.dispose()
        producer.dispose()
    assert verify(tmp_path / "package.zip").predicate["rows"]["findings"] == 12


def test_keys_that_do_not_fit(package: Path, tmp_path: Path) -> None:
    make_key(tmp_path / "other")
    assert "signed it, and not" in doubt(package, public_key=public_key(tmp_path / "other.pub"))
    assert (tmp_path / "other").stat().st_mode & 0o777 == 0o600
    with pytest.raises(UsageError, match="is there already"):
        make_key(tmp_path / "other")
    with pytest.raises(UsageError, match="is no private key in PEM"):
        signer_with(tmp_path / "other.pub")
    with pytest.raises(UsageError, match=r"give the \.pub file"):
        public_key(tmp_path / "other")
    with pytest.raises(UsageError, match="cannot be read"):
        signer_with(tmp_path / "none")


def test_a_command_signs(database: Database, scan: Scan, package: Path, tmp_path: Path) -> None:
    public = public_key(tmp_path / "key.pub")
    program = tmp_path / "sign.py"
    program.write_text(
        "import base64, sys\nfrom cryptography.hazmat.primitives.serialization import load_pem_private_key\n"
        "key = load_pem_private_key(open(sys.argv[1], 'rb').read(), None)\n"
        "print(base64.b64encode(key.sign(sys.stdin.buffer.read())).decode())\n"
    )
    output = tmp_path / "by-command.zip"
    signing = signer_by(f"{sys.executable} {program} {tmp_path / 'key'}", public)
    build(database, Selection(scan_id=scan.id), signing, output)
    assert output.read_bytes() == package.read_bytes()
    make_key(tmp_path / "other")
    wrong = {
        f"{sys.executable} {program} {tmp_path / 'other'}": "is not that of the key in --public-key",
        f"{sys.executable} {program} {tmp_path / 'none'}": "ended with code 1: FileNotFoundError",
        "echo signed": "it wrote no Ed25519 signature",
        "no-such-program": "No such file",
    }
    for command, why in wrong.items():
        with pytest.raises(UsageError, match=why):
            build(database, Selection(scan_id=scan.id), signer_by(command, public), tmp_path / "none.zip")
    assert not (tmp_path / "none.zip").exists()


def hostile(package: bytes) -> Iterator[tuple[bytes, str]]:
    files = members(package)
    yield b"", "this is no whole audit package"
    yield b"PK\5\6" + bytes(18), "this is no whole audit package"
    yield zipped([("statement.dsse.json", b"{}\n"), *files[1:]]), "the package is not signed"
    yield zipped([("statement.dsse.json", b"[" * 100_000), *files[1:]]), "statement.dsse.json"
    envelope = json.loads(files[0][1])
    payload = base64.b64decode(envelope["payload"]).replace(b"audit-package:v1", b"audit-package:v2")
    newer = json.dumps(envelope | {"payload": base64.b64encode(payload).decode()}).encode()
    yield zipped([("statement.dsse.json", newer), *files[1:]]), "install a newer release"
    # A header that promises a terabyte, and a compressed bomb in place of a file.
    huge = bytearray(package)
    at = 30 + len("statement.dsse.json") + 4
    huge[at : at + 16] = (1 << 40).to_bytes(8, "little") * 2
    yield bytes(huge), "are the most"


def test_files_that_are_no_package_of_ours(package: Path, tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("statement.dsse.json", bytes(50 << 20))
    assert "this is no whole audit package" in doubt(bomb)
    for content, why in hostile(package.read_bytes()):
        bomb.write_bytes(content)
        assert why in doubt(bomb)


def fakesweep(*arguments: object, database_url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "producers", "audit", *map(str, arguments)], cwd=ROOT, text=True, capture_output=True,
        env=os.environ | {"DATABASE_URL": database_url}, check=False,
    )  # fmt: skip


def test_the_commands(database_url: str, scan: Scan, tmp_path: Path) -> None:
    key, output = tmp_path / "key", tmp_path / "package.zip"
    made = fakesweep("key", key, database_url="")
    assert made.stdout == f"{key}.pub\n"
    (tmp_path / "metrics.json").write_text("{}")
    more = ("--evaluation", tmp_path, "--json")
    built = fakesweep("build", scan.id, "--key", key, "--output", output, *more, database_url=database_url)
    assert json.loads(built.stdout)["rows"]["findings"] == 24, built.stderr
    good = fakesweep("verify", output, "--public-key", f"{key}.pub", database_url="")
    assert good.returncode == 0, good.stderr
    assert "nothing was changed" in good.stdout
    assert ("evaluation/1/metrics.json", b"{}") in members(output.read_bytes())
    output.write_bytes(output.read_bytes()[:-1])
    cut = fakesweep("verify", output, "--public-key", f"{key}.pub", database_url="")
    assert (cut.returncode, cut.stderr.count("\n")) == (1, 1), cut.stderr
    both = fakesweep("build", scan.id, "--uri", "s3://b/1", "--key", key, "--output", output, database_url=database_url)
    assert (both.returncode, "only one of them" in both.stderr) == (2, True)


def test_verify_asks_whose_signature_is_enough(package: Path, signer: Signer, tmp_path: Path) -> None:
    public = ("--public-key", tmp_path / "key.pub")
    for wrong in ((), (*public, "--any-key")):
        asked = fakesweep("verify", package, *wrong, database_url="")
        assert (asked.returncode, "give either --public-key" in asked.stderr) == (2, True)
    anybody = fakesweep("verify", package, "--any-key", database_url="")
    assert (anybody.returncode, "give --public-key" in anybody.stderr) == (0, True)
    lying = resigned(package, signer, predicate={"key_given": True, "keyid": "another"})
    said = json.loads(fakesweep("verify", lying, "--any-key", "--json", database_url="").stdout)
    assert (said["key_given"], len(said["keyid"])) == (False, 64)
    assert json.loads(fakesweep("verify", lying, *public, "--json", database_url="").stdout)["key_given"] is True


def test_the_package_before_must_be_ours(database_url: str, scan: Scan, package: Path, tmp_path: Path) -> None:
    output, other = tmp_path / "next.zip", tmp_path / "other"
    make_key(other)

    def built(*more: object) -> subprocess.CompletedProcess[str]:
        return fakesweep("build", scan.id, "--after", package, *more, database_url=database_url)

    stranger = built("--key", other, "--output", output)
    assert (stranger.returncode, "give --after-public-key" in stranger.stderr, output.exists()) == (1, True, False)
    changed = built("--key", other, "--output", output, "--after-public-key", tmp_path / "key.pub")
    assert changed.returncode == 0, changed.stderr
    verify(output, public_key(tmp_path / "other.pub"), after=package)
    same = built("--key", tmp_path / "key", "--output", package)
    assert (same.returncode, "give another --output" in same.stderr) == (2, True)
    assert built("--key", tmp_path / "key", "--output", output).returncode == 0
