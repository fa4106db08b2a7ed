"""Finds which packages a command loads, apart from ours and Python's own."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache

from tests.processes import ROOT

FOR_HELP = {"typer", "annotated_doc", "shellingham", "rich", "markdown_it", "mdurl", "pygments", "attr"}
FOR_ARGUMENTS = {
    "typer", "annotated_doc", "shellingham", "pydantic", "pydantic_core", "annotated_types", "typing_inspection",
    "typing_extensions",
}  # fmt: skip
FOR_DATABASE = FOR_ARGUMENTS | {
    "pydantic_settings", "dotenv", "sqlalchemy", "greenlet", "sqlmodel", "psycopg", "psycopg_binary", "tenacity",
    "filelock",
}  # fmt: skip

_MAIN = """
import os, sys
import producers.__main__ as command

folders = [folder for folder in sys.path if folder.endswith("-packages")]
for arguments in COMMANDS:
    sys.argv = ["fakesweep", *arguments]
    try:
        command.main()
    except SystemExit as ended:
        assert ended.code in CODES, (arguments, ended.code)
found = {
    name.partition(".")[0]
    for name, module in sys.modules.items()
    if (getattr(module, "__file__", None) or "").startswith(tuple(folders))
}
print("loaded", *found, file=sys.stderr)
"""


def loaded_by(
    *commands: Sequence[str], environment: Mapping[str, str] = os.environ, codes: Sequence[int] = (0,)
) -> set[str]:
    """Returns the packages that one process has loaded after these commands of `fakesweep`, which end with one of
    `codes`.

    Packages that every Python of this environment loads are left out. An editable installation has such packages.
    """
    script = f"COMMANDS, CODES = {[list(command) for command in commands]!r}, {tuple(codes)}\n{_MAIN}"
    return set(_python(script, environment).stderr.splitlines()[-1].split()[1:]) - _at_start()


@cache
def _at_start() -> frozenset[str]:
    script = "import sys; print(*{name.partition('.')[0] for name in sys.modules})"
    return frozenset(_python(script, os.environ).stdout.split())


def _python(script: str, environment: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False, env=dict(environment)
    )
    assert done.returncode == 0, done.stderr
    return done
