"""Files that other processes may meet: one process at a time writes to them."""

from typing import IO, Any

from filelock import lock_descriptor

from worker.errors import ConfigurationError


def lock(file: IO[Any], refusal: str) -> None:
    """Take an open file for this process alone, until it closes the file or dies.

    The content of the file is left as it is. Raises ConfigurationError with the text `refusal`, at once, when another
    process has the file.
    """
    if not lock_descriptor(file.fileno(), blocking=False):
        raise ConfigurationError(refusal)
