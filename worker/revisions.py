"""Lists the revisions of the schema that this release brings. The names of their files begin with their numbers.

`migrations/versions` holds what a release needs, and `migrations/after` removes what only older releases use, once none
of them runs. A release is named by its newest revision.
"""

from pathlib import Path

import migrations
from worker.errors import ConfigurationError

WORKS_FROM = "works with releases from revision "
"""The beginning of the comment on `alembic_version`. The revision follows."""


def folders() -> tuple[Path, Path]:
    """Returns two folders: of the revisions that run before a roll-out, and of those that run after it."""
    package = Path(migrations.__file__).parent
    return package / "versions", package / "after"


def needed() -> str:
    """Returns the oldest revision that this release works with. Raises ConfigurationError if there is none."""
    before, _ = folders()
    return max(_numbers(before))


def newest() -> str:
    """Returns the newest revision of this release. Raises like `needed`."""
    before, after = folders()
    return max(_numbers(before) + _numbers(after, required=False))


def _numbers(folder: Path, *, required: bool = True) -> list[str]:
    found = [path.name.partition("_")[0] for path in folder.glob("[0-9]*_*.py")]
    if required and not found:
        raise ConfigurationError("the installation has no migrations: install fakesweep again")
    return found
