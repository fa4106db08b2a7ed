"""A disk for Postgres that is small enough to be filled: a tmpfs of a fixed size."""

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SIZE_MB = 220


class Disk:
    """The disk that holds `folder`. `why_not` says why it cannot be filled; None if it can be filled."""

    def __init__(self, folder: Path, why_not: str | None) -> None:
        self.folder, self.why_not = folder, why_not
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        """Fills the disk until no byte is free."""
        block = bytes(2**20)
        with self._ballast.open("wb", buffering=0) as file:
            while len(block) >= 512:
                try:
                    if file.write(block) < len(block):
                        block = block[: len(block) // 2]
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    block = block[: len(block) // 2]

    def free(self) -> None:
        """Frees the space that fill() took."""
        self._ballast.unlink(missing_ok=True)


@contextmanager
def small_disk(folder: Path) -> Iterator[Disk]:
    """Mounts a tmpfs at `folder`. If this account may not do that, gives the folder itself, which cannot be filled."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m,mode=755", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, check=False, capture_output=True, text=True)
    except OSError as error:
        yield Disk(folder, f"no small disk can be made: mount: {error.strerror}")
        return
    if done.returncode:
        yield Disk(folder, f"no small disk can be made: {done.stderr.strip()}")
        return
    try:
        yield Disk(folder, None)
    finally:
        os.sync()
        subprocess.run(["umount", "--lazy", str(folder)], check=False, capture_output=True)
