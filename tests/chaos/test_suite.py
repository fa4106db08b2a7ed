"""Runs a short round of the fault suite, and tests the suite itself.

Each of three copies of our code gets one error. On each copy, the suite must fail and say why.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.processes import ROOT

ROUND = ["--rounds", "1", "--seed", "1", "--images", "160", "--submissions", "24"]
SHORT = [*ROUND, "--storm-s", "10"]
SLOW = [*ROUND, "--brokers", "redis", "--storm-s", "50", "--settle-s", "60", "--image-s", "0.4"]
"""The options for the copies. Each image takes so long that a kill hits some images. On a busy machine, a worker needs
half a minute to start again, so the storm is long enough for several kills.
"""

DEATHS = ["--faults", "worker_sigkill,engine_crash", "--twice", "no"]
COPIES = ["--faults", "message_twice", "--twice", "yes"]
NOT_COPIED = shutil.ignore_patterns("__pycache__", "*.safetensors", ".*")


@dataclass(frozen=True)
class Mutation:
    """A change of our code that the suite must notice when these faults are caused."""

    file: str
    before: str
    after: str
    faults: Sequence[str]


MUTATIONS = {
    "acknowledged before the commit": Mutation(
        "worker/broker.py", "task_acks_late=True", "task_acks_late=False", DEATHS
    ),
    "an insert in place of the upsert": Mutation(
        "worker/database/saving.py",
        "insert(Finding).from_select(names, rows).on_conflict_do_nothing()",
        "insert(Finding).from_select(names, rows)",
        COPIES,
    ),
    "no cap on retries": Mutation("worker/path.py", "if delivery.attempt < parts.retry_limit:", "if True:", DEATHS),
}


@pytest.mark.timeout(600)
def test_short_seed(tmp_path: Path) -> None:
    process = start(ROOT, tmp_path, SHORT)
    report = finished(process, tmp_path)
    assert process.returncode == 0, report["problems"]
    assert {name: report[name] for name in ("lost", "unexpected", "doubled", "wrong")} == {
        "lost": 0, "unexpected": 0, "doubled": 0, "wrong": 0,
    }  # fmt: skip
    assert report["faults"] > 10
    assert report["images"] > 160


@pytest.mark.timeout(600)
def test_it_fails_with_each_mutation(tmp_path: Path) -> None:
    """All copies run in parallel, because each mostly waits. Without a mutation, the same faults do no harm.

    The unchanged code gets more time to settle: an image whose worker was killed again and again waits for each next
    delivery, and five suites share two cores here.
    """
    started = {}
    for name, mutation in MUTATIONS.items():
        folder = tmp_path / name.replace(" ", "-")
        mutate(copy_of_code(folder / "code"), mutation)
        started[name] = start(folder / "code", folder, [*SLOW, *mutation.faults])
    control = tmp_path / "control"
    control.mkdir()
    unchanged = start(
        ROOT,
        control,
        [*SLOW, "--faults", "worker_sigkill,engine_crash,message_twice", "--twice", "yes", "--settle-s", "240"],
    )
    reports = {name: finished(process, tmp_path / name.replace(" ", "-")) for name, process in started.items()}
    assert finished(unchanged, control)["problems"] == []
    assert {name: process.returncode for name, process in started.items()} == dict.fromkeys(MUTATIONS, 1)
    for name, report in reports.items():
        says_why(name, report)


def says_why(name: str, report: Mapping[str, Any]) -> None:
    """Asserts that the report names what the mutation breaks."""
    lost = [line for line in report["problems"] if " lost: " in line]
    always_away = ("always 503", "always short")
    match name:
        case "acknowledged before the commit":
            uris = [uri for line in lost for uri in line.partition(" lost: ")[2].split(", ")]
            assert [uri for uri in uris if not any(away in uri for away in always_away)], report["problems"]
        case "an insert in place of the upsert":
            assert any("UniqueViolation" in line or "duplicate key" in line for line in report["problems"]), report
        case "no cap on retries":
            assert "images lost" in lost[0], report["problems"]
            assert all(away in lost[0] for away in always_away), report["problems"]
            assert any("not settled" in line for line in report["problems"])


def copy_of_code(folder: Path) -> Path:
    """Copies the code that the suite runs."""
    for name in ("worker", "producers", "migrations", "deploy", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=NOT_COPIED)
    return folder


def mutate(code: Path, mutation: Mutation) -> None:
    """Changes one place in the copy."""
    file = code / mutation.file
    text = file.read_text()
    assert text.count(mutation.before) == 1, f"{mutation.file} has changed: write the mutation again"
    file.write_text(text.replace(mutation.before, mutation.after))


def start(code: Path, folder: Path, options: Sequence[str]) -> subprocess.Popen[bytes]:
    """Starts the suite on this code. It writes its report and its output into `folder`."""
    command = [sys.executable, "-m", "tests.chaos.run", *options, "--report", str(folder / "report.json")]
    with (folder / "output").open("wb") as output:
        return subprocess.Popen(
            command, cwd=code, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            env={**os.environ, "PYTHONPATH": str(code)},
        )  # fmt: skip


def finished(process: subprocess.Popen[bytes], folder: Path) -> dict[str, Any]:
    """Waits until the suite has ended, and returns its report."""
    try:
        process.wait(400)
    finally:
        process.terminate()
        process.wait()
    report = folder / "report.json"
    assert report.exists(), (folder / "output").read_text()[-3000:]
    return dict(json.loads(report.read_text()))
