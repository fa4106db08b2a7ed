"""How a process that lists for `nightly` reports what it has done."""

import subprocess
import sys

from structlog.testing import capture_logs

from producers.counting import Counts, hear
from tests.processes import ROOT

CHILD = """
import sys
from producers.counting import Counts, tell_parent
tell_parent(Counts(listed=5, known=2))
sys.stdin.readline()
tell_parent(Counts(published=3))
"""


def child() -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-c", CHILD], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_the_counts_of_a_child_reach_its_parent() -> None:
    told: list[Counts] = []
    with child() as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(b"\n")
        process.stdin.close()
        hear(process.stdout, told.append)
    assert told == [Counts(listed=5, known=2), Counts(published=3)]


def test_a_child_continues_after_its_parent_has_ended() -> None:
    with child() as process:
        assert process.stdout
        process.stdout.readline()
        process.stdout.close()
        _, said = process.communicate(b"\n")
    assert (process.returncode, said) == (0, b"")


def test_a_line_without_counts_is_skipped() -> None:
    told: list[Counts] = []
    with capture_logs() as logs:
        hear([b"hello\n", b"[]\n", b'{"dogs": 1}\n', b"\xff\n", b'{"listed": 1}\n'], told.append)
    assert told == [Counts(listed=1)]
    assert [line["event"] for line in logs] == ["counts_not_understood"] * 4
