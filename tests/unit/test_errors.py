"""The error tree is complete: each error of the project is defined in worker/errors.py, and is in its docstring."""

import ast
import builtins
from collections.abc import Iterator
from pathlib import Path

from tests.processes import ROOT
from worker import errors

HOME = ROOT / "worker" / "errors.py"


def defined_in(path: Path) -> Iterator[tuple[str, str]]:
    """Yields the name and the base of each exception class of ours.

    A BaseException is left out: it only ends a wait, and nobody handles it. So is a class that is derived from an error
    of another library, such as botocore's: it belongs to that library's tree.
    """
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    for one in (node for node in nodes if isinstance(node, ast.ClassDef)):
        for base in (ast.unparse(base).rpartition(".")[2] for base in one.bases):
            if (
                base != "BaseException"
                and base.endswith(("Exception", "Error"))
                and (hasattr(builtins, base) or hasattr(errors, base))
            ):
                yield one.name, base


def drawn() -> dict[str, str]:
    """Returns each error of the drawn tree, with the error above it."""
    found: dict[str, str] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        words = line.lstrip("│├└─ ").split()
        if words and words[0].endswith("Error") and (line == words[0] or "── " in line):
            depth = (len(line) - len(line.lstrip("│├└─ "))) // 4
            above[depth:] = [words[0]]
            found[words[0]] = above[depth - 1] if depth else "Exception"
    return found


def test_every_error_is_defined_in_one_file() -> None:
    elsewhere = {
        f"{path.relative_to(ROOT)}: {name}"
        for folder in ("worker", "producers")
        for path in (ROOT / folder).rglob("*.py")
        if path != HOME
        for name, _ in defined_in(path)
    }
    assert not elsewhere, "define it in worker/errors.py"


def test_the_drawn_tree_is_that_of_the_code() -> None:
    assert drawn() == dict(defined_in(HOME))
