"""Gives the code of an earlier commit from the repository's history, and databases for it and for our code."""

import io
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.scratch import empty_database
from benchmarks.sweeps import HERE, environment_of

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


@contextmanager
def old_code(commit: str) -> Iterator[Path]:
    """Gives a folder with the files of that commit. Raises RuntimeError if the history does not have it."""
    archived = subprocess.run(["git", "archive", commit], cwd=HERE, capture_output=True, check=False)
    if archived.returncode:
        raise RuntimeError(f"this needs commit {commit}: run it in a clone with the whole history")
    with tempfile.TemporaryDirectory(prefix="fakesweep-") as folder:
        with tarfile.open(fileobj=io.BytesIO(archived.stdout)) as files:
            files.extractall(folder, filter="data")
        yield Path(folder)


@contextmanager
def known_archive(code: Path, keys: int) -> Iterator[str]:
    """Gives the URL of a database that this code has migrated, and that knows this many keys."""
    with empty_database() as url:
        command = [sys.executable, "-c", _PREPARE, url, str(keys)]
        ran = subprocess.run(command, cwd=code, env=environment_of(code), stdout=subprocess.PIPE, text=True, check=True)
        if not Path(ran.stdout.splitlines()[-1]).is_relative_to(code):
            raise RuntimeError(f"{ran.stdout.strip()} was imported, instead of the code in {code}")
        yield url
