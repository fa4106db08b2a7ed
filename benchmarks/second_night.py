"""How fast does a nightly scan skip what it recorded before, and how much does it add to the database?

The reference is the last commit whose scans recorded every image. The old code comes from the repository's history. It
runs in the same interpreter, on a database that it migrated.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg

from benchmarks.comparison import Comparison, Wanted, in_turns
from benchmarks.old_code import known_archive, old_code
from benchmarks.sweeps import HERE, empty_queue, sweep, write_manifest

BEFORE = "4b222fa"
KEYS = 1_000_000
ROUNDS = 3
TARGET = 3.0
ONE_MB = 1.0


def compare(wanted: Wanted) -> Iterator[Comparison]:
    """Compares keys per second of `fakesweep scan`, as a process and with its start, and the MB that a night adds."""
    with (
        tempfile.TemporaryDirectory() as folder,
        old_code(BEFORE) as old,
        known_archive(HERE, KEYS) as url,
        known_archive(old, KEYS) as old_url,
        empty_queue() as rabbit,
    ):
        manifest = write_manifest(Path(folder), KEYS)
        sweep(manifest, url, rabbit, options=["--record", "changes"])  # the first night
        _vacuum(url)
        added: list[float] = []

        def night() -> float:
            before = _size_mb(url)
            figures = sweep(manifest, url, rabbit, options=["--record", "changes"])
            if (figures["unchanged"], figures["messages"]) != (KEYS, 0):
                raise RuntimeError(f"not everything was unchanged: {figures}")
            added.append(_size_mb(url) - before)
            return float(figures["keys_per_s"])

        ours, before = in_turns(night, lambda: float(sweep(manifest, old_url, rabbit, code=old)["keys_per_s"]), ROUNDS)
    if wanted("second_night.keys_per_s"):
        yield Comparison("second_night.keys_per_s", "keys/s", ours, before, TARGET, higher_is_better=True)
    if wanted("second_night.added_mb"):
        yield Comparison("second_night.added_mb", "MB", tuple(added), (ONE_MB,) * ROUNDS, 1.0, higher_is_better=False)


def _size_mb(url: str) -> float:
    with psycopg.connect(url) as connection:
        (size,) = connection.execute("SELECT pg_database_size(current_database())").fetchone() or (0,)
    return float(size) / 1e6


def _vacuum(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
