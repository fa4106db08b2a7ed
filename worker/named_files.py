"""Files and folders that settings name: their whole path, and what to say if one cannot be read."""

from pathlib import Path

from worker.errors import ConfigurationError


def expanded(setting: str, path: Path) -> Path:
    """Returns the path with a home folder in place of `~`. Raises ConfigurationError if there is no such user."""
    try:
        return path.expanduser()
    except RuntimeError:
        raise ConfigurationError(f"{setting}: {path} names a user who is not there: give the whole path") from None


def unreadable(setting: str, path: Path, error: OSError) -> ConfigurationError:
    """Returns the error that says that the path cannot be read, and why."""
    return ConfigurationError(
        f"{setting}: {path} cannot be read: {error.strerror}: check the path, and that this user may read it"
    )
