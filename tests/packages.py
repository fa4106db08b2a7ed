"""Audit packages for tests: data to build one of, and changes to one."""

import hashlib
import io
import random
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
from sqlalchemy import text

from producers.audit import container
from producers.audit.container import Entry
from producers.audit.digests import digest, pieces
from producers.audit.manifest import File, read_manifest
from producers.audit.signing import Signer
from producers.audit.statement import Envelope, envelope_of, statement_of
from producers.audit.verifying import verify
from producers.reviews import Stated, add_reviewer, review
from tests.integration.test_moderate import job, png, start
from worker.database import Database, transaction
from worker.database.detectors import register_detector
from worker.detector.vlm import VlmDetector
from worker.errors import PackageDoubtError
from worker.messages import ImageRef
from worker.moderate import moderate
from worker.parts import Parts
from worker.tables import Scan, Statement
from worker.testing import InMemoryImageStore, ScriptedEngine, ScriptedProvenance, scripted_description

Members = list[tuple[str, bytes]]
FIRST_FILES = ("statement.dsse.json", "manifest.json")


def scanned(database: Database, images: int = 24) -> Scan:
    """A scan that has ended, with fake, real, reused and failed images, a review of two people, and a withdrawal."""
    description = scripted_description()
    detector_id = register_detector(database, description.row())
    uris = [f"s3://b/{n:03}" for n in range(images)]
    # Two images have the same content, and the last one is missing.
    objects = {uri: png(f"#{0x0A0A0A * (n // 2 * 2 % 24):06x}", (64, 64)) for n, uri in enumerate(uris[:-1])}
    parts = Parts(
        InMemoryImageStore(objects), database, VlmDetector(ScriptedEngine(), description), detector_id,
        provenance=ScriptedProvenance({}),
    )  # fmt: skip
    scan = start(database, images)
    for first in range(0, images, 12):
        moderate(job(scan, *map(ref_of, uris[first : first + 12])), uuid4(), parts)
    for name in ("heron", "ibis"):
        add_reviewer(database, name, logins=(f"proxy:{name}@example.org",))
        sha256 = hashlib.sha256(objects[uris[-2]]).hexdigest()
        said = Stated(scan_id=scan.id, uri=uris[-2], sha256=sha256, statement=Statement.FAKE, reviewer=name)
        made = review(database, said)
    with transaction(database) as session:
        session.execute(
            text("INSERT INTO withdrawals (review_id, reviewer) VALUES (:id, 'ibis')"), {"id": made.id}
        )  # fmt: skip
    return scan


def ref_of(uri: str) -> ImageRef:
    return ImageRef(uri=uri, external_id=f"post ü {uri[-3:]}")


def members(package: bytes) -> Members:
    with zipfile.ZipFile(io.BytesIO(package)) as file:
        return [(one.filename, file.read(one)) for one in file.infolist()]


def zipped(files: Members) -> bytes:
    """The zip that the format asks for, of any files."""
    entries: list[Entry] = []
    made = io.BytesIO()
    for name, content in files:
        entry = Entry(name, len(content), zlib.crc32(content), entries[-1].end if entries else 0)
        made.write(container.header(name, entry.size, entry.crc) + content)
        entries.append(entry)
    return made.getvalue() + container.directory(entries)


def doubt(package: Path, **more: Any) -> str:
    """What `verify` doubts."""
    with pytest.raises(PackageDoubtError) as caught:
        verify(package, **more)
    return str(caught.value)


def resigned(
    package: Path,
    signer: Signer,
    edits: Mapping[str, tuple[bytes, bytes]] | None = None,
    *,
    contents: Mapping[str, bytes] | None = None,
    listed: Callable[[tuple[File, ...]], Iterable[File]] = tuple,
    predicate: Mapping[str, Any] | None = None,
) -> Path:
    """A package in which a signer has changed files, the list of files or the predicate, and signed again."""
    files = dict(members(package.read_bytes())) | dict(contents or {})
    for name, (old, new) in (edits or {}).items():
        files[name] = files[name].replace(old, new, 1)
    for name in (*(edits or {}), *(contents or {})):
        files[f"digests/{name}"] = b"".join(map(digest, pieces(name, io.BytesIO(files[name]))))
    manifest = read_manifest(files["manifest.json"])
    described = tuple(
        one.model_copy(update={"size": len(files[one.path]), "sha256": hashlib.sha256(files[one.path]).hexdigest()})
        for one in manifest.files
    )
    manifest = manifest.model_copy(update={"files": tuple(listed(described))})
    sha256 = hashlib.sha256(manifest.content()).hexdigest()
    said = {**Envelope(files["statement.dsse.json"]).predicate, **(predicate or {})}
    statement = envelope_of(statement_of(manifest, sha256, said), signer)
    others = [(one.path, files.get(one.path, b"")) for one in manifest.files]
    changed = package.with_name("resigned.zip")
    changed.write_bytes(zipped([("statement.dsse.json", statement), ("manifest.json", manifest.content()), *others]))
    return changed


class Change(NamedTuple):
    """A changed package. One of `places` must be in what `verify` says."""

    what: str
    package: bytes
    places: tuple[str, ...]


def changes(package: bytes, number: int, seed: int = 1) -> Iterator[Change]:
    """Yields changes of every kind in turn: bytes, rows, files, their order, and the end of the file."""
    chance = random.Random(seed)
    kinds: tuple[Callable[[bytes, random.Random], Change], ...] = (
        *(_byte,) * 3, _row_changed, _row_removed, _row_moved, _row_added, _file_changed, _file_removed, _file_twice,
        _file_added, _files_swapped, _cut, _longer, _forged,
    )  # fmt: skip
    for turn in range(number):
        yield kinds[turn % len(kinds)](package, chance)


def _byte(package: bytes, chance: random.Random) -> Change:
    """Changes one byte: in a file that is chosen first, so that small files are hit, or anywhere."""
    with zipfile.ZipFile(io.BytesIO(package)) as file:
        infos = file.infolist()
    starts = [info.header_offset for info in infos] + [len(package)]
    which = chance.randrange(len(infos))
    at = chance.choice([chance.randrange(len(package)), chance.randrange(starts[which], starts[which + 1])])
    changed = bytearray(package)
    changed[at] ^= 1 << chance.randrange(8)
    hit = [info.filename for info in infos if info.header_offset <= at][-1]
    return Change(f"byte {at} in {hit}", bytes(changed), (hit, f"byte {at}"))


def _rows(package: bytes, chance: random.Random) -> tuple[Members, int, str, list[bytes]]:
    files = members(package)
    named = [
        n for n, (name, content) in enumerate(files) if name.endswith(".jsonl") and content and "digests" not in name
    ]
    which = chance.choice(named)
    return files, which, files[which][0], files[which][1].splitlines(keepends=True)


def _changed_row(what: str, files: Members, which: int, lines: list[bytes], number: int) -> Change:
    name = files[which][0]
    files[which] = (name, b"".join(lines))
    return Change(f"{what}: {name}, line {number}", zipped(files), (f"{name}, line {number} ",))


def _row_changed(package: bytes, chance: random.Random) -> Change:
    files, which, _, lines = _rows(package, chance)
    number = chance.randrange(len(lines))
    lines[number] = lines[number].replace(b"1", b"2", 1) if b"1" in lines[number] else b"{}\n"
    return _changed_row("row changed", files, which, lines, number + 1)


def _row_removed(package: bytes, chance: random.Random) -> Change:
    files, which, _, lines = _rows(package, chance)
    number = chance.randrange(len(lines))
    del lines[number]
    return _changed_row("row removed", files, which, lines, number + 1)


def _row_moved(package: bytes, chance: random.Random) -> Change:
    files, which, _, lines = _rows(package, chance)
    one, other = sorted((chance.randrange(len(lines)), chance.randrange(len(lines))))
    if one == other:
        return _row_removed(package, chance)
    lines[one], lines[other] = lines[other], lines[one]
    return _changed_row("rows swapped", files, which, lines, one + 1)


def _row_added(package: bytes, chance: random.Random) -> Change:
    files, which, _, lines = _rows(package, chance)
    number = chance.randrange(len(lines) + 1)
    lines.insert(number, b'{"added":true}\n')
    return _changed_row("row added", files, which, lines, number + 1)


def _file_changed(package: bytes, chance: random.Random) -> Change:
    files = members(package)
    which = chance.randrange(len(files))
    name, content = files[which]
    files[which] = (name, content + b"x")
    # The package cannot be read on behind a longer statement or manifest.
    return Change(f"{name} is longer", zipped(files), (name,))


def _file_removed(package: bytes, chance: random.Random) -> Change:
    files = members(package)
    name, _ = files.pop(chance.randrange(len(files)))
    return Change(f"{name} is missing", zipped(files), (name,))


def _file_twice(package: bytes, chance: random.Random) -> Change:
    files = members(package)
    which = chance.randrange(len(files))
    files.insert(which + 1, files[which])
    return Change(f"{files[which][0]} is there twice", zipped(files), (files[which][0], "byte"))


def _file_added(package: bytes, chance: random.Random) -> Change:
    files = members(package)
    files.insert(chance.randrange(len(files) + 1), ("extra.txt", b"more"))
    return Change("extra.txt was added", zipped(files), ("extra.txt", *FIRST_FILES, "byte"))


def _files_swapped(package: bytes, chance: random.Random) -> Change:
    files = members(package)
    one, other = sorted(chance.sample(range(len(files)), 2))
    files[one], files[other] = files[other], files[one]
    return Change(f"{files[one][0]} and {files[other][0]} swapped", zipped(files), (files[one][0], files[other][0]))


def _cut(package: bytes, chance: random.Random) -> Change:
    at = chance.randrange(len(package))
    return Change(f"cut at {at}", package[:at], (f"byte {at}", "byte 0", "byte"))


def _longer(package: bytes, chance: random.Random) -> Change:
    return Change("longer", package + chance.randbytes(chance.randint(1, 100)), (f"byte {len(package)}",))


def _forged(package: bytes, chance: random.Random) -> Change:
    """Changes a row and its digest, as somebody does who knows the format and has no key."""
    files, which, name, lines = _rows(package, chance)
    number = chance.randrange(len(lines))
    lines[number] = b'{"forged":true}\n'
    files[which] = (name, b"".join(lines))
    there = [one for one, _ in files].index(f"digests/{name}")
    files[there] = (files[there][0], b"".join(map(digest, lines)))
    return Change(f"forged: {name}, line {number + 1}", zipped(files), (f"digests/{name}",))
