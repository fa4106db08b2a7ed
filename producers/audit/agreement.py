"""Checks that the rows of a package are what the manifest says, and that JSON Lines and Parquet hold the same rows."""

import io
from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from producers.audit.digests import LONGEST_LINE
from producers.audit.lines import line_of
from producers.audit.manifest import Manifest
from producers.audit.spooling import BATCH, ROW_GROUP
from worker.errors import PackageDoubtError

MOST_GROUP_BYTES = 1 << 30
"""Of a row group without its compression. One of ours has about 10 MB."""

Opened = Callable[[str], io.BufferedReader]


def check_rows(manifest: Manifest, opened: Opened) -> None:
    """Raises PackageDoubtError with the first row of doubt. `opened` opens a file of the package."""
    for file in manifest.files:
        if file.path.endswith(".jsonl") and file.rows is not None:
            name = file.path.removesuffix(".jsonl")
            twin = f"{name}.parquet"
            if manifest.rows_of(twin) is None:
                _count(file.path, file.rows, opened)
            else:
                _compare(name, file.rows, opened)


def _count(path: str, rows: int, opened: Opened) -> None:
    with opened(path) as lines:
        found = sum(1 for _ in _lines(lines))
    if found != rows:
        raise PackageDoubtError(path, f"it has {found} rows, and the manifest says {rows}")


def _compare(name: str, rows: int, opened: Opened) -> None:
    number = 0
    with opened(f"{name}.jsonl") as lines, opened(f"{name}.parquet") as columns:
        read = _lines(lines)
        for number, line in enumerate(_lines_of_rows(f"{name}.parquet", columns), start=1):
            if next(read, None) != line:
                raise PackageDoubtError(f"{name}.jsonl, line {number}", f"row {number} of {name}.parquet is another")
        if next(read, None) is not None:
            raise PackageDoubtError(f"{name}.jsonl, line {number + 1}", f"{name}.parquet has no such row")
    if number != rows:
        raise PackageDoubtError(f"{name}.jsonl", f"it has {number} rows, and the manifest says {rows}")


def _lines(file: io.BufferedReader) -> Iterator[bytes]:
    return iter(lambda: file.readline(LONGEST_LINE), b"")


def _lines_of_rows(path: str, file: io.BufferedReader) -> Iterator[bytes]:
    try:
        with pq.ParquetFile(file, page_checksum_verification=True) as columns:
            groups = [columns.metadata.row_group(number) for number in range(columns.metadata.num_row_groups)]
            if any(group.num_rows > ROW_GROUP or group.total_byte_size > MOST_GROUP_BYTES for group in groups):
                raise PackageDoubtError(path, "a row group is larger than the format allows")
            for batch in columns.iter_batches(BATCH):
                yield from map(line_of, batch.to_pylist())
    # A column may have values that Python or JSON does not have: bytes, nanoseconds, or times in the year 10000.
    except (pa.ArrowException, OSError, ValueError, OverflowError, TypeError) as error:
        said = str(error).splitlines() or [type(error).__name__]
        raise PackageDoubtError(path, f"it cannot be read: {said[0]}") from None
