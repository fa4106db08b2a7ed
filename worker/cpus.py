"""How many CPUs this process may really use, and how many threads that makes."""

from loky import cpu_count

_THREADS, _THREADS_A_CPU, _MOST_THREADS = 8, 4, 32
"""A thread waits for S3, for Postgres and for the engine most of the time: eight threads keep a GPU busy even on
one CPU. With more than 32 threads, 16 images each only take more memory.
"""


def usable_cpus() -> int:
    """Returns the smallest of these: the machine's CPUs, the process's affinity, and the quota of its container
    (cgroup v1 or v2).
    """
    return int(cpu_count())


def default_threads() -> int:
    """Returns how many messages of scans a worker process handles at once if FAKESWEEP_THREADS is not set."""
    return min(_MOST_THREADS, _THREADS + _THREADS_A_CPU * usable_cpus())
