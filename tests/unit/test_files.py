"""Files that other processes may meet."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT
from worker.errors import ConfigurationError
from worker.files import lock

HOLD = """\
import sys
from pathlib import Path
from worker.files import lock

file = Path(sys.argv[1]).open("a")
lock(file, "taken")
print("locked", flush=True)
sys.stdin.read()
"""


def test_a_file_is_one_processes_until_its_death(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_text("before")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder, path.open("a+") as file:
        assert holder.stdout
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(ConfigurationError, match=r"^another has it$"):
            lock(file, "another has it")
        holder.kill()
        holder.wait()
        lock(file, "another has it")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
