"""Only the modules in which a process begins read the environment. They pass on what they read as values."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

DOORS = {
    "worker/__main__.py": "a worker begins here",
    "worker/replicas.py": "the parent of several workers begins here, and a child reads its number here",
    "producers/commands/*.py": "each command of the command line begins here",
    "worker/detector/start.py": "sets a variable for vLLM, which has no argument for it; reads none",
}
"""Modules that may touch the environment, and why."""


def touches(source: str) -> Iterator[str]:
    """Yields where a module reads the environment: os.environ, os.getenv, Settings.from_environment(), Settings()."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(value=ast.Name(id="os"), attr="environ" | "environb" | "getenv" | "getenvb" as name):
                yield f"line {node.lineno}: os.{name}"
            case ast.ImportFrom(module="os", names=names):
                yield from (
                    f"line {node.lineno}: {one.name}" for one in names if one.name.startswith(("environ", "getenv"))
                )
            case ast.Attribute(attr="from_environment"):
                yield f"line {node.lineno}: from_environment"
            case ast.Call(func=ast.Name(id="Settings") | ast.Attribute(attr="Settings")):
                yield f"line {node.lineno}: Settings()"


def modules() -> list[Path]:
    return sorted(path for package in ("worker", "producers") for path in (ROOT / package).rglob("*.py"))


def is_door(path: Path) -> bool:
    return any(path.relative_to(ROOT).match(door) for door in DOORS)


def test_no_other_module_reads_the_environment() -> None:
    found = [
        f"{path.relative_to(ROOT)}, {touch}"
        for path in modules()
        if not is_door(path)
        for touch in touches(path.read_text())
    ]
    assert not found, "pass the value on from a module in DOORS"


@pytest.mark.parametrize("door", DOORS)
def test_each_door_is_used(door: str) -> None:
    assert any(list(touches(path.read_text())) for path in modules() if path.relative_to(ROOT).match(door))


@pytest.mark.parametrize(
    "source",
    [
        "import os\nx = os.environ['A']",
        "import os\nx = os.environ.get",
        "import os\nx = os.getenv('A')",
        "from os import path, environ",
        "from os import getenv as read",
        "from worker.settings import Settings\nx = Settings.from_environment()",
        "from worker.settings import Settings\nx = Settings(threads=1)",
        "from worker import settings\nx = settings.Settings()",
    ],
)
def test_every_way_to_read_the_environment_is_found(source: str) -> None:
    assert len(list(touches(source))) == 1


def test_values_that_are_passed_on_are_allowed() -> None:
    assert not list(
        touches("import os\nfrom os import path\ndef f(settings: Settings, environ): return settings.threads")
    )
