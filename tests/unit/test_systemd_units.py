"""The unit files of deploy/systemd: systemd accepts each line, and fakesweep each command."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from producers.__main__ import app
from tests.conftest import IN_CI
from tests.documents import ROOT, service_lines
from worker.replicas import CONFIGURATION
from worker.settings import Settings

FOLDER = ROOT / "deploy" / "systemd"
UNITS = sorted(FOLDER.iterdir())
SERVICES = [unit for unit in UNITS if unit.suffix == ".service"]
PROGRAM = "/opt/fakesweep/bin/fakesweep"


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_accepts_each_line(unit: Path, tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        assert not IN_CI
        pytest.skip("systemd-analyze is not installed")
    for one in UNITS:  # because a timer refers to its service
        (tmp_path / one.name).write_text(one.read_text().replace(PROGRAM, "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / unit.name], capture_output=True, text=True, check=False
    )
    said = [line for line in done.stderr.splitlines() if unit.name in line or unit.stem in line]
    assert (done.returncode, said) == (0, [])


@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.name)
def test_the_command_has_these_options(unit: Path) -> None:
    (line,) = service_lines(unit)["ExecStart"]
    assert line.startswith(PROGRAM)
    _, name, *words = re.sub(r"\$\{\w+\}", "180", line).split()
    context = app.make_context("fakesweep", [name], resilient_parsing=True)
    _, command, _ = app.resolve_command(context, [name])
    assert command is not None
    command.make_context(name, words, parent=context)


@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.name)
def test_a_process_has_no_privileges_and_its_secrets_are_files(unit: Path) -> None:
    said = service_lines(unit)
    assert said["DynamicUser"] == said["NoNewPrivileges"] == said["PrivateTmp"] == ["yes"]
    assert said["ProtectSystem"] == ["strict"]
    given = {value.partition(":")[0] for value in said["LoadCredential"]}
    used = set(re.findall(r"=%d/([\w.]+)", " ".join(said["Environment"])))
    assert given == used
    # What is in /etc/fakesweep may be readable by root alone: systemd reads it, and hands it over.
    assert not any("/etc/fakesweep" in value for value in said["Environment"])


def test_a_worker_has_time_to_finish_and_a_wrong_configuration_is_not_started_again() -> None:
    said = service_lines(FOLDER / "fakesweep-worker.service")
    assert int(said["TimeoutStopSec"][0]) > Settings().engine_stall_s
    assert said["KillMode"] == ["mixed"]
    assert said["Restart"] == ["on-failure"]
    assert said["RestartPreventExitStatus"] == [str(CONFIGURATION)]
