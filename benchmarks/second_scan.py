"""How fast is a manifest passed by whose images are all known, beside the code before it was made faster?

The old code comes out of the repository's history. It runs in the same interpreter, on a database that it migrated.
"""

import io
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.comparison import Comparison, Wanted, in_turns
from benchmarks.scratch import empty_database
from benchmarks.sweeps import HERE, empty_queue, environment_of, sweep, write_manifest

BEFORE = "74eab6a"
"""The commit that we compare with: the last one that made a producer's way through a known listing no faster."""

KEYS = 1_000_000
ROUNDS = 3
TARGET = 1.6
WANTED_KEYS_PER_S = 50_000.0

_PREPARE = """
import sys
import producers
from benchmarks.scratch import know_images
from worker.database import connect
from worker.database.detectors import register_detector
from worker.migrate import upgrade
from worker.testing import scripted_description

database = connect(sys.argv[1])
upgrade(database)
know_images(sys.argv[1], register_detector(database, scripted_description().row()), int(sys.argv[2]))
print(producers.__file__)
"""


def compare(wanted: Wanted) -> Iterator[Comparison]:
    """Keys a second of `fakesweep scan`, as a process and with its start, once everything is known."""
    with (
        tempfile.TemporaryDirectory() as folder,
        _old_code() as old,
        _known(HERE) as url,
        _known(old) as old_url,
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


@contextmanager
def _old_code() -> Iterator[Path]:
    """A folder with the files of the commit BEFORE. Raises RuntimeError where the history does not have it."""
    archived = subprocess.run(["git", "archive", BEFORE], cwd=HERE, capture_output=True, check=False)
    if archived.returncode:
        raise RuntimeError(f"second_scan needs commit {BEFORE}: run it in a clone with the whole history")
    with tempfile.TemporaryDirectory(prefix="fakesweep-") as folder:
        with tarfile.open(fileobj=io.BytesIO(archived.stdout)) as files:
            files.extractall(folder, filter="data")
        yield Path(folder)


@contextmanager
def _known(code: Path) -> Iterator[str]:
    """The URL of a database that this code has migrated, where every key is known."""
    with empty_database() as url:
        command = [sys.executable, "-c", _PREPARE, url, str(KEYS)]
        ran = subprocess.run(command, cwd=code, env=environment_of(code), stdout=subprocess.PIPE, text=True, check=True)
        if not Path(ran.stdout.splitlines()[-1]).is_relative_to(code):
            raise RuntimeError(f"{ran.stdout.strip()} was imported, and not the code in {code}")
        yield url
