"""A part of a file, as a file of its own that can be read and sought."""

import io
from typing import BinaryIO


class Range(io.RawIOBase):
    """The bytes from `start`, `size` of them. It moves the position of the file that it reads."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        super().__init__()
        self._file, self._start, self._size, self._at = file, start, size, 0

    def readable(self) -> bool:
        """See io.IOBase."""
        return True

    def seekable(self) -> bool:
        """See io.IOBase."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """See io.IOBase."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(base + offset, 0)
        return self._at

    def tell(self) -> int:
        """See io.IOBase."""
        return self._at

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        """See io.RawIOBase."""
        wanted = max(min(len(buffer), self._size - self._at), 0)
        self._file.seek(self._start + self._at)
        read = self._file.read(wanted)
        buffer[: len(read)] = read
        self._at += len(read)
        return len(read)


def part_of(file: BinaryIO, start: int, size: int) -> io.BufferedReader:
    """Returns a buffered reader of this part of the file."""
    return io.BufferedReader(Range(file, start, size), 1 << 16)
