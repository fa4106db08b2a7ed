"""The error tree is whole: each error of the project is defined in worker/errors.py, and drawn in its docstring."""

import ast
import builtins
from collections.abc import Iterator
from pathlib import Path

from tests.processes import ROOT
from worker import errors

HOME = ROOT / "worker" / "errors.py"


def defined_in(path: Path) -> Iterator[tuple[str, str]]:
    """Name and base of each exception class. A BaseException is none: it leaves a wait, and nobody handles it.

    Nor is a class on another library's base, such as botocore's: it stands in that library's tree.
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
    """Each error of the drawing with the one that it hangs on."""
    found: dict[str, str] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        words = line.lstrip("│├└─ ").split()
        if words and words[0].endswith("Error") and (line == words[0] or "── " in line):
            depth = (len(line) - len(line.lstrip("│├└─ "))) // 4
            above[depth:] = [words[0]]
            found[words[0]] = above[depth - 1] if depth else "Exception"
    return found


def test_every_error_stands_in_the_tree() -> None:
    elsewhere = {
        f"{path.relative_to(ROOT)}: {name}"
        for folder in ("worker", "producers")
        for path in (ROOT / folder).rglob("*.py")
        if path != HOME
        for name, _ in defined_in(path)
    }
    assert not elsewhere, "define it in worker/errors.py"


def test_the_tree_is_drawn_as_it_is() -> None:
    assert drawn() == dict(defined_in(HOME))
