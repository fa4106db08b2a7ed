"""The revisions of the schema that this release brings: the names of their files begin with their numbers.

`migrations/versions` holds what a release needs, and `migrations/after` what is removed when no older release is at
work. A release is named by its newest revision.
"""

from pathlib import Path

import migrations
from worker.errors import ConfigurationError

WORKS_FROM = "works with releases from revision "
"""How the comment on `alembic_version` begins; then comes the revision."""


def folders() -> tuple[Path, Path]:
    """Where the revisions are that run before a roll-out, and those that run after it."""
    package = Path(migrations.__file__).parent
    return package / "versions", package / "after"


def needed() -> str:
    """The oldest revision that this release works with. Raises ConfigurationError when there are no migrations."""
    before, _ = folders()
    return max(_numbers(before))


def newest() -> str:
    """The newest revision of this release. Raises like `needed`."""
    before, after = folders()
    return max(_numbers(before) + _numbers(after, required=False))


def _numbers(folder: Path, *, required: bool = True) -> list[str]:
    found = [path.name.partition("_")[0] for path in folder.glob("[0-9]*_*.py")]
    if required and not found:
        raise ConfigurationError("the installation has no migrations: install fakesweep again")
    return found
