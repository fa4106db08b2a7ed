"""Finds the first place of doubt in a file of a package whose SHA-256 is not that of the manifest."""

import io
from collections.abc import Sequence
from typing import BinaryIO

from producers.audit import container, digests
from producers.audit.container import Entry
from producers.audit.manifest import File, Manifest
from producers.audit.ranges import part_of
from worker.errors import PackageDoubtError

LONGEST_HEADER = 4096


class Locator:
    """Looks at the entries as their own headers describe them. `checked` are the entries before the doubt."""

    def __init__(self, file: BinaryIO, size: int, manifest: Manifest, checked: Sequence[Entry]) -> None:
        self._file, self._size, self._manifest, self._checked = file, size, manifest, checked

    def doubt(self, described: File, start: int) -> PackageDoubtError:
        """Returns what is wrong with the entry that should begin at `start`."""
        name = described.path
        found = self._header(start)
        if found is None:
            return PackageDoubtError(f"byte {start}", f"the zip's header of {name} is missing or damaged")
        if found[0] != name:
            return self._another(name, found[0], start)
        if start + container.header_size(name) + found[1] > self._size:
            missing = start + container.header_size(name) + found[1] - self._size
            return PackageDoubtError(f"byte {self._size}", f"it ends within {name}: {missing} bytes are missing")
        return self._within(name, start, found[1])

    def _another(self, name: str, there: str, start: int) -> PackageDoubtError:
        if any(entry.name == there for entry in self._checked):
            return PackageDoubtError(there, f"it is there twice: the second one begins at byte {start}")
        if all(file.path != there for file in self._manifest.files):
            return PackageDoubtError(f"byte {start}", f"the entry {there!r} is not in the manifest")
        return PackageDoubtError(name, f"it is missing, or not in its place: at byte {start} is {there}")

    def _within(self, name: str, start: int, size: int) -> PackageDoubtError:
        if name.startswith(digests.FOLDER):
            return self._in_digests(name, start, size)
        entry = next(entry for entry in self._checked if entry.name == digests.FOLDER + name)
        content = self._part(start + container.header_size(name), size)
        found = digests.first_difference(name, content, self._part(entry.data, entry.size))
        if found is None:
            return PackageDoubtError(name, "its bytes are not those that were signed")
        number, at = found
        place = f"{name}, line {number}" if name.endswith(".jsonl") else f"{name}, block {number}"
        return PackageDoubtError(f"{place} (from byte {at} of the file)", "it was changed, moved, added or removed")

    def _in_digests(self, name: str, start: int, size: int) -> PackageDoubtError:
        """The digests were changed. The file that they are about says where, if it can be found behind them."""
        data, place = start + container.header_size(name), name
        about = name.removeprefix(digests.FOLDER)
        if (behind := self._behind(about, data + size)) is not None:
            found = digests.first_difference(about, self._part(*behind), self._part(data, size))
            place = f"{name}, line {found[0]}" if found else name
        return PackageDoubtError(place, "it was changed, moved, added or removed")

    def _behind(self, name: str, at: int) -> tuple[int, int] | None:
        while (found := self._header(at)) is not None:
            data = at + container.header_size(found[0])
            if found[0] == name:
                return data, found[1]
            at = data + found[1]
        return None

    def _header(self, at: int) -> tuple[str, int] | None:
        if at >= self._size:
            return None
        self._file.seek(at)
        return container.parsed_header(self._file.read(LONGEST_HEADER))

    def _part(self, start: int, size: int) -> io.BufferedReader:
        return part_of(self._file, start, size)


def differs_at(read: bytes, wanted: bytes) -> int | None:
    """Returns the index of the first byte that differs, or None if both are equal."""
    if read == wanted:
        return None
    pairs = zip(read, wanted, strict=False)
    return next((at for at, (one, other) in enumerate(pairs) if one != other), min(len(read), len(wanted)))
