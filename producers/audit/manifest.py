"""The manifest of a package: each file with its size, its SHA-256 and, if it holds rows, their number."""

import hashlib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from producers.audit.container import chunks
from producers.audit.digests import FOLDER
from producers.audit.lines import json_bytes
from worker.errors import PackageDoubtError

FORMAT: Literal["fakesweep-audit/1"] = "fakesweep-audit/1"
STATEMENT = "statement.dsse.json"
MANIFEST = "manifest.json"
PATH = r"^[a-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*$"
"""No part of it begins with a dot, so none is `..`."""
MOST_BYTES = 64 << 20
"""Of the statement and of the manifest, which are read into memory. Ours have a few kilobytes."""
LONGEST_PATH = 200
"""In characters."""
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class File(BaseModel):
    """A file of the package. `rows` is the number of its rows, if it is .jsonl or .parquet."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    path: Annotated[str, Field(pattern=PATH, max_length=LONGEST_PATH)]
    size: Annotated[int, Field(ge=0, lt=1 << 60)]
    sha256: Sha256
    rows: Annotated[int, Field(ge=0)] | None = None


class Manifest(BaseModel):
    """All files but the manifest itself and the statement, in the order of the zip."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal["fakesweep-audit/1"] = FORMAT
    files: tuple[File, ...]

    def content(self) -> bytes:
        """Returns the bytes of manifest.json."""
        return json_bytes(self.model_dump(exclude_none=True)) + b"\n"

    def rows_of(self, path: str) -> int | None:
        """Returns the number of rows of a file, or None if it is not there or holds none."""
        return next((file.rows for file in self.files if file.path == path), None)


def read_manifest(content: bytes) -> Manifest:
    """Returns the manifest that these bytes are. Raises PackageDoubtError if they are not exactly one."""
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError as error:
        raise PackageDoubtError(MANIFEST, f"it is no manifest: {error.errors()[0]['msg']}") from None
    if manifest.content() != content:
        raise PackageDoubtError(MANIFEST, "it is not written as the format says")
    names = [file.path for file in manifest.files]
    if len(set(names)) < len(names):
        raise PackageDoubtError(MANIFEST, "it names a file twice")
    _check_names(names)
    return manifest


def _check_names(names: list[str]) -> None:
    """First come the digests, one of each other file, and then these files in the same order."""
    others = names[len(names) // 2 :]
    if names[: len(names) // 2] != [f"{FOLDER}{name}" for name in others]:
        raise PackageDoubtError(MANIFEST, "it must name the digests of each file, and then the files in the same order")
    for name in others:
        if name in {MANIFEST, STATEMENT} or name.startswith(FOLDER):
            raise PackageDoubtError(MANIFEST, f"it must not name {name}")


def described(name: str, path: Path, rows: int | None = None) -> File:
    """Returns the manifest's line about a file on this machine."""
    sha256 = hashlib.sha256()
    for chunk in chunks(path):
        sha256.update(chunk)
    return File(path=name, size=path.stat().st_size, sha256=sha256.hexdigest(), rows=rows)
