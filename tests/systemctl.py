"""A replacement for systemctl where systemd does not run: `start`, `stop` and `enable --now` of our services.

    python -m tests.systemctl start fakesweep-worker

It reads the unit files in $UNITS and does what some of their lines say: EnvironmentFile, Environment, LoadCredential
and ExecStart. It restricts nothing. /etc/fakesweep is $SETTINGS. The program `fakesweep` is the one on the PATH.
"""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.documents import service_lines

STOPS_WITHIN_S = 60


def main(verb: str, *arguments: str) -> int:
    """Carries out the action for each unit. Returns the exit code."""
    for unit in (one for one in arguments if not one.startswith("-")):
        (_stop if verb == "stop" else _start)(unit.removesuffix(".service"))
    return 0


def _start(unit: str) -> None:
    said = service_lines(Path(os.environ["UNITS"]) / f"{unit}.service")
    settings = os.environ["SETTINGS"]
    credentials = _state(unit, "credentials")
    credentials.mkdir(parents=True, exist_ok=True)
    for line in said.get("LoadCredential", []):
        name, _, path = line.partition(":")
        (credentials / name).write_bytes(Path(path.replace("/etc/fakesweep", settings)).read_bytes())
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_URL")}
    for path in said.get("EnvironmentFile", []):
        environment |= _assignments(Path(path.replace("/etc/fakesweep", settings)).read_text().splitlines())
    words = [word for line in said.get("Environment", []) for word in line.split()]
    environment |= {name: value.replace("%d", str(credentials)) for name, value in _assignments(words).items()}
    command = re.sub(r"\$\{(\w+)\}", lambda found: environment[found[1]], said["ExecStart"][0]).split()
    command[0] = Path(command[0]).name
    with _state(unit, "log").open("ab") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    if said.get("Type") == ["oneshot"] and process.wait():
        sys.exit(f"{unit} failed: {_state(unit, 'log').read_text()[-2000:]}")
    _state(unit, "pid").write_text(str(process.pid))


def _assignments(lines: list[str]) -> dict[str, str]:
    pairs = (line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    return {name: value for name, value in pairs if "%C" not in value and name != "HOME"}


def _stop(unit: str) -> None:
    if not _state(unit, "pid").exists():  # it was never started
        return
    pid = int(_state(unit, "pid").read_text())
    os.kill(pid, signal.SIGTERM)
    until = time.monotonic() + STOPS_WITHIN_S
    while time.monotonic() < until and Path(f"/proc/{pid}/cmdline").exists() and _alive(pid):
        time.sleep(0.1)


def _alive(pid: int) -> bool:
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def _state(unit: str, what: str) -> Path:
    return Path(os.environ["UNITS"]) / f"{unit}.{what}"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
