"""Builds a package.

one snapshot: read the scans --> write the rows of each table --> write the summary
--> digests --> manifest --> statement --> sign --> zip
"""

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sqlmodel import Session

from producers.audit import container, digests
from producers.audit.evaluations import copy_evaluations
from producers.audit.facts import Facts, read_facts
from producers.audit.manifest import FORMAT, MANIFEST, MOST_BYTES, STATEMENT, File, Manifest, described
from producers.audit.selection import Selection
from producers.audit.signing import Signer, pem_of
from producers.audit.spooling import spool
from producers.audit.statement import envelope_of, statement_of
from producers.audit.summary import SUMMARY, write_summary
from producers.audit.tables import parts
from worker.database import Database, transaction
from worker.database.events import record
from worker.errors import UsageError
from worker.files import replacing
from worker.tables import EventKind


@dataclass(frozen=True)
class Built:
    """A package that was written. `rows` counts the rows of each table, and `notes` say what it does not hold."""

    sha256: str
    rows: dict[str, int]
    notes: tuple[str, ...]


def build(
    database: Database,
    selection: Selection,
    signer: Signer,
    output: Path,
    *,
    after: str | None = None,
    evaluations: Sequence[Path] = (),
    most_bytes: int = MOST_BYTES,
) -> Built:
    """Writes a package, and records that in the table of events. The package replaces the file at `output`.

    `after` is the SHA-256 of the package before, as `verify` returned it. `evaluations` are outputs of `fakesweep
    evaluate`, and files about calibrations. `most_bytes` is how large the statement and the manifest may be, so that
    `verify` reads them. Needs twice the size of the package on the disk of `output`, and memory for a row group of a
    table.

    Raises NoSuchScanError, UsageError if the signer fails, the package would name too much, or there is no folder for
    the output, DatabaseUnavailableError, and OSError.
    """
    if not output.parent.is_dir():
        raise UsageError(f"--output: there is no folder {output.parent}: make it first")
    with tempfile.TemporaryDirectory(prefix=".fakesweep-", dir=output.parent) as name:
        folder = Path(name)
        copy_evaluations(evaluations, folder)
        with snapshot(database) as session:
            facts = read_facts(session, selection)
            rows = {part.name: spool(session, part, folder) for part in parts(selection)}
        write_summary(folder / SUMMARY, facts, rows)
        manifest = _manifest(folder, rows)
        (folder / MANIFEST).write_bytes(manifest.content())
        statement = statement_of(
            manifest, _sha256(folder / MANIFEST), _predicate(selection, facts, rows, signer, after)
        )
        (folder / STATEMENT).write_bytes(envelope_of(statement, signer))
        _check_size(folder, most_bytes)
        names = (STATEMENT, MANIFEST, *(file.path for file in manifest.files))
        with replacing(output, binary=True) as file:
            container.write(((name, folder / name) for name in names), file)
            file.flush()
            built = Built(_sha256(Path(file.name)), rows, facts.notes)
            _record(database, selection, built)
    return built


def _check_size(folder: Path, most_bytes: int) -> None:
    for name in (STATEMENT, MANIFEST):
        if (size := (folder / name).stat().st_size) > most_bytes:
            raise UsageError(
                f"{name} would have {size:,} bytes, and `verify` reads at most {most_bytes:,}: give a later --since, "
                "or fewer --uri and --evaluation"
            )


def _record(database: Database, selection: Selection, built: Built) -> None:
    details = {"sha256": built.sha256, "rows": built.rows}
    with transaction(database) as session:
        record(session, EventKind.AUDIT_BUILT, scan_id=selection.scan_id, details=details)


@contextmanager
def snapshot(database: Database) -> Iterator[Session]:
    """Opens a session that only reads, and sees one state of all tables. Rows are sent as they are asked for."""
    with transaction(database) as session:
        session.connection(execution_options={"isolation_level": "REPEATABLE READ", "postgresql_readonly": True})
        yield session


def _manifest(folder: Path, rows: dict[str, int]) -> Manifest:
    """Describes all files: first the digests of each file, then the files themselves."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return Manifest(
        files=(
            *(_digests_of(folder, name) for name in names),
            *(described(name, folder / name, rows.get(name.partition(".")[0])) for name in names),
        )
    )


def _digests_of(folder: Path, name: str) -> File:
    made = f"{digests.FOLDER}{name}"
    (folder / made).parent.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("rb") as file, (folder / made).open("wb") as lines:
        lines.writelines(map(digests.digest, digests.pieces(name, file)))
    return described(made, folder / made)


def _predicate(
    selection: Selection, facts: Facts, rows: dict[str, int], signer: Signer, after: str | None
) -> dict[str, Any]:
    """What the statement says. It names no time, so that the same data gives the same bytes."""
    return {
        "format": FORMAT,
        "release": version("fakesweep"),
        "selection": selection.described(),
        "rows": rows,
        "notes": list(facts.notes),
        "after": {"sha256": after} if after else None,
        "public_key": pem_of(signer.public).decode(),
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
