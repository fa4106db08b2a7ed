"""The CPUs that a process may use. It is tested in another process, because an affinity cannot be taken back here."""

import os
import subprocess
import sys

import pytest

from worker.cpus import default_threads, usable_cpus


def test_a_process_that_may_use_one_cpu_counts_one() -> None:
    one = min(os.sched_getaffinity(0))
    code = (
        f"import os; os.sched_setaffinity(0, {{{one}}})\n"
        "from worker.cpus import default_threads, usable_cpus\n"
        "print(usable_cpus(), default_threads())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "12"]


@pytest.mark.parametrize(("cpus", "threads"), [("1", 12), ("2", 16), ("6", 32), ("64", 32)])
def test_threads_follow_from_cpus_up_to_a_limit(cpus: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """LOKY_MAX_CPU_COUNT can only lower the number of CPUs, so a larger value leaves that of this machine."""
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", cpus)
    assert usable_cpus() <= int(cpus)
    assert default_threads() == min(threads, 8 + 4 * usable_cpus(), 32)
