"""What the revisions of the schema declare, and which of them a release needs."""

from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from worker.migrate import alembic_config
from worker.revisions import folders, needed, newest

FIRST = "0014"
"""The first revision that declares from which release on it works."""


def undeclared(config: Config) -> list[str]:
    """Returns the revisions from FIRST on without a valid declaration.

    A declared release must not be newer than the revision, nor older than the one that the revision before declares.
    """
    wrong, oldest = [], ""
    for script in reversed(list(ScriptDirectory.from_config(config).walk_revisions())):
        if script.revision >= FIRST:
            declared = getattr(script.module, "works_from", "")
            if not oldest <= declared <= script.revision or not declared:
                wrong.append(script.revision)
            oldest = max(oldest, declared)
    return wrong


def test_each_revision_declares_from_which_release_on_it_works() -> None:
    assert undeclared(alembic_config()) == []


@pytest.mark.parametrize(
    ("declared", "wrong"), [("", True), ("works_from = '9999'", True), ("works_from = '0013'", False)]
)
def test_a_wrong_declaration_is_found(tmp_path: Path, declared: str, wrong: bool) -> None:
    config, before = alembic_config(), newest()
    number = f"{max(int(before), 13) + 1:04}"
    declared = declared.replace("0013", before)
    (tmp_path / f"{number}_next.py").write_text(f"revision = '{number}'\ndown_revision = '{before}'\n{declared}\n")
    locations = [*map(str, folders()), str(tmp_path)]
    config.set_main_option("version_locations", "\n".join(locations))
    assert undeclared(config) == ([number] if wrong else [])


def test_a_release_needs_no_revision_that_runs_after_the_roll_out() -> None:
    before, after = ({path.name[:4] for path in folder.glob("[0-9]*_*.py")} for folder in folders())
    assert needed() == max(before)
    assert newest() == max(before | after)
    assert not before & after
