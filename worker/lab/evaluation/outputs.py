"""Checks before the work whether an output can be written, so that no work is lost."""

import os
from pathlib import Path

from worker.errors import ConfigurationError


def check_folder(folder: Path, option: str) -> None:
    """Raises ConfigurationError, which names the option, if the folder cannot be written to or created."""
    place = folder.absolute()
    there = next(one for one in (place, *place.parents) if os.path.exists(one))  # noqa: PTH110 - Path's raises EACCES
    if not there.is_dir():
        raise ConfigurationError(f"{option}: {there} is a file, not a folder; give another place")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ConfigurationError(f"{option}: {there} is not writable; allow it, or give another place")


def check_page(file: Path, option: str) -> None:
    """Raises ConfigurationError if no page can be written there. The folder of a page is not created."""
    if file.is_dir():
        raise ConfigurationError(f"{option}: {file} is a folder; name a file in it, such as {file / 'page.html'}")
    check_folder(file.parent, option)
    if not file.parent.is_dir():
        raise ConfigurationError(f"{option}: there is no folder {file.parent}; make it, or give another place")
