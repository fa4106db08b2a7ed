"""How fast does a scan skip a manifest whose images are all known, compared with the code before it became faster?

The old code comes from the repository's history. It runs in the same interpreter, on a database that it migrated.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.comparison import Comparison, Wanted, in_turns
from benchmarks.old_code import known_archive, old_code
from benchmarks.sweeps import HERE, empty_queue, sweep, write_manifest

BEFORE = "74eab6a"
"""The last commit before we made a producer faster on a known listing."""

KEYS = 1_000_000
ROUNDS = 3
TARGET = 1.6
WANTED_KEYS_PER_S = 50_000.0


def compare(wanted: Wanted) -> Iterator[Comparison]:
    """Compares keys per second of `fakesweep scan`, as a process and with its start, when everything is known."""
    with (
        tempfile.TemporaryDirectory() as folder,
        old_code(BEFORE) as old,
        known_archive(HERE, KEYS) as url,
        known_archive(old, KEYS) as old_url,
        empty_queue() as rabbit,
    ):
        manifest = write_manifest(Path(folder), KEYS)
        ours, before = in_turns(
            lambda: float(sweep(manifest, url, rabbit)["keys_per_s"]),
            lambda: float(sweep(manifest, old_url, rabbit, code=old)["keys_per_s"]),
            ROUNDS,
        )
    if wanted("second_scan.keys_per_s"):
        yield Comparison("second_scan.keys_per_s", "keys/s", ours, before, TARGET, higher_is_better=True)
    if wanted("second_scan.rate"):
        constant = (WANTED_KEYS_PER_S,) * ROUNDS
        yield Comparison("second_scan.rate", "keys/s", ours, constant, None, higher_is_better=True)
