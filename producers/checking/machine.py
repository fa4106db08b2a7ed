"""Whether this machine has room: disk for temporary files, shared memory, and memory under a container's limit."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from producers.checking.rows import Check, Process, Row, Subject, ok, skipped, warning, wrong

_GIB = 2**30
_LEAST_TEMPORARY = 2**30
"""Bytes. Reports, exports and Python's own temporary files are smaller."""
_LEAST_SHARED = 160 * 2**20
"""Bytes. vLLM's engine passes images to its own process through shared memory. With less, its start fails. Measured."""
_PYTHON = {Process.WORKER: 4 * _GIB, Process.WEB: _GIB // 2}
"""What a process needs beside its images: torch and vLLM with their own process, or the web server. In bytes."""
_NO_LIMIT = 2**60
"""cgroup v1 writes a number near 2**63 where there is no limit."""


def room(folder: Path, *, least: int, setting: str) -> Row:
    """Says whether a folder, or the place where it will be made, is writable and has `least` bytes free."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(there, os.W_OK, effective_ids=True):
        return wrong(f"{there} is not writable", f"set {setting} to a folder that this user may write to")
    free = shutil.disk_usage(there).free
    found = f"{free / _GIB:.1f} GiB free in {folder}"
    if free < least:
        return warning(f"{found}; {least / _GIB:g} GiB may be needed", f"make room, or set {setting} to another folder")
    return ok(found)


def _temporary(_: Subject) -> Iterator[Row]:
    yield room(Path(tempfile.gettempdir()), least=_LEAST_TEMPORARY, setting="TMPDIR")


def _shared_memory(subject: Subject) -> Iterator[Row]:
    if subject.settings.engine != "vllm":
        yield skipped("only vLLM needs it")
    else:
        yield shared_memory(Path("/dev/shm"))  # noqa: S108 - it is asked for its size


def shared_memory(folder: Path, least: int = _LEAST_SHARED) -> Row:
    """Says whether the shared memory at `folder` has `least` bytes free."""
    if not folder.is_dir():
        return skipped(f"there is no {folder}")
    free = shutil.disk_usage(folder).free
    found = f"{free >> 20} MiB free in {folder}"
    if free < least:
        remedy = "give the container more: docker run --shm-size 1g, shm_size in Compose, or an emptyDir in memory"
        return wrong(f"{found}; vLLM needs {least >> 20} MiB", remedy)
    return ok(found)


def memory_limit(root: Path = Path("/")) -> int | None:
    """Returns the limit of this process's cgroup in bytes, of version 1 or 2; None if there is none.

    Each group above limits it, too. In a container, the group is the root of what can be seen.
    """
    limits = [limit for path in _limit_files(root) if (limit := _number(path)) is not None and limit < _NO_LIMIT]
    return min(limits, default=None)


def _limit_files(root: Path) -> Iterator[Path]:
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers not in {"", "memory"}:
            continue
        top, name = (
            ("sys/fs/cgroup/memory", "memory.limit_in_bytes") if controllers else ("sys/fs/cgroup", "memory.max")
        )
        own = root / top / group.lstrip("/")
        for folder in (own, *own.parents):
            yield folder / name
            if folder == root / top:
                break


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # no such file, or "max"
        return None


def _memory(subject: Subject) -> Iterator[Row]:
    limit = memory_limit()
    if limit is None:
        yield skipped("no limit by a container")
        return
    wanted = {
        Process.WORKER: lambda: subject.settings.image_memory_mib,
        Process.WEB: lambda: subject.web.image_memory_mib,
    }
    for process in sorted(subject.processes & wanted.keys()):
        yield enough(limit, _PYTHON[process] + wanted[process]() * 2**20, process)


def enough(limit: int, wanted: int, process: Process) -> Row:
    """Says whether the container's limit is enough for a process. Both are in bytes."""
    found = f"{limit / _GIB:.1f} GiB allowed by the container"
    if limit < wanted:
        setting = "FAKESWEEP_WEB_IMAGE_MEMORY_MIB" if process is Process.WEB else "FAKESWEEP_IMAGE_MEMORY_MIB"
        return warning(
            f"{found}; {wanted / _GIB:.1f} GiB may be needed",
            f"raise the container's limit, or lower {setting}",
            process,
        )
    return ok(found, process)


CHECKS = (
    Check("temporary files", _temporary, "set TMPDIR to a folder with room", after=None),
    Check("shared memory", _shared_memory, "give more to /dev/shm", needed_by=frozenset({Process.WORKER})),
    Check("memory limit", _memory, "raise the limit", needed_by=frozenset({Process.WORKER, Process.WEB})),
)
