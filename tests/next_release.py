"""A release that does not exist yet: this code, with further revisions of the schema."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.processes import ROOT
from worker.migrate import newest

_REVISION = """
import sqlalchemy as sa
from alembic import op
from migrations.concurrently import create_index

revision = "{revision}"
down_revision = "{down_revision}"
works_from = "{works_from}"


def upgrade() -> None:
    {upgrade}
"""

INDEX = "ix_findings_next"


@dataclass(frozen=True)
class NextRelease:
    """`column` and `index` are its revisions that run before the roll-out; `drop` runs after it.

    Processes that run in `folder` with `environment` are of this release.
    """

    folder: Path
    column: str
    index: str
    drop: str

    @property
    def environment(self) -> dict[str, str]:
        return {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}


def write_next_release(folder: Path, works_from: str | None = None) -> NextRelease:
    """Writes its migrations.

    The first one works with releases from `works_from` on, by default from this release on.
    """
    here = int(newest())
    made = NextRelease(folder, *(f"{here + number:04}" for number in (1, 2, 3)))
    shutil.copytree(ROOT / "migrations", folder / "migrations")
    for half, revision, oldest, sql in (
        ("versions", made.column, works_from or newest(), 'op.add_column("scans", sa.Column("next", sa.Text()))'),
        ("versions", made.index, works_from or newest(), f'create_index("{INDEX}", "(reason, decided_at)")'),
        ("after", made.drop, made.index, 'op.drop_column("scans", "next")'),
    ):
        before = f"{int(revision) - 1:04}"
        text = _REVISION.format(revision=revision, down_revision=before, works_from=oldest, upgrade=sql)
        (folder / "migrations" / half / f"{revision}_next.py").write_text(text)
    return made
