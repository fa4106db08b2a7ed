"""Lists the revisions of the schema that this release brings, and reads the revision of a database.

The names of their files begin with their numbers.

`migrations/versions` holds what a release needs, and `migrations/after` removes what only older releases use, once none
of them runs. A release is named by its newest revision.
"""

import re
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Connection, text

import migrations
from worker.errors import ConfigurationError

_WORKS_FROM = "works with releases from revision "
"""The beginning of the comment on `alembic_version`. The revision follows."""

_STATE = """
SELECT string_agg(version_num, ', ' ORDER BY version_num), obj_description('alembic_version'::regclass, 'pg_class')
FROM alembic_version
"""


class SchemaState(NamedTuple):
    """What the database says: the revision of its schema, and the oldest release that works with it, if it says so."""

    revision: str
    """Empty in a database without our schema."""
    works_from: str | None

    def works_with_this_release(self) -> bool:
        return needed() <= self.revision <= newest() or (self.is_newer() and (self.works_from or "9999") <= newest())

    def is_newer(self) -> bool:
        return self.revision > newest()


def state_of(connection: Connection) -> SchemaState:
    """Asks the database. A comment that is not ours says nothing."""
    if connection.execute(text("SELECT to_regclass('alembic_version')")).scalar() is None:
        return SchemaState("", None)
    revision, comment = connection.execute(text(_STATE)).one()
    said = re.fullmatch(f"{_WORKS_FROM}([0-9]+)", comment or "")
    return SchemaState(revision or "", said[1] if said else None)


def comment(works_from: str | None) -> str:
    """The SQL that writes into the schema from which release on it works."""
    said = f"'{_WORKS_FROM}{works_from}'" if works_from else "NULL"
    return f"COMMENT ON TABLE alembic_version IS {said}"


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
