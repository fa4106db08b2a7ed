"""A clock of a process that can be made to jump, with libfaketime, which reads its offset from a file."""

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

from tests.chaos.services import MissingError


class Clock:
    """The wall clock of all processes that are started with its `environment`. Their monotonic clocks do not jump."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.jump(0)

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that load libfaketime. Raises MissingError when it is not installed."""
        found = importlib.util.find_spec("libfaketime")
        if found is None or found.origin is None:
            raise MissingError("libfaketime is not installed")
        library = Path(found.origin).parent / "vendor" / "libfaketime" / "src" / "libfaketime.so.1"
        return {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",  # seconds after which the file is read again
            "DONT_FAKE_MONOTONIC": "1",
        }

    def jump(self, offset_s: int) -> None:
        """Sets the clock fast by `offset_s`, or slow if that is negative. Processes see it within a second."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{offset_s:+d}\n")
        new.replace(self._file)

    def check(self) -> None:
        """Raises MissingError when a process does not see the jump."""
        self.jump(3600)
        code = [sys.executable, "-c", "import time; print(time.time())"]
        done = subprocess.run(code, check=False, capture_output=True, text=True, env={**os.environ, **self.environment})
        self.jump(0)
        if done.returncode or float(done.stdout) < time.time() + 1800:
            raise MissingError(f"libfaketime does not work here: {done.stderr.strip()[-200:]}")
