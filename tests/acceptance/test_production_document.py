"""docs/production.md, followed word by word: from an empty database to a scan and a restored backup.

The shell blocks run in one shell, in order. Only the values in the first block are replaced. Where the document
starts a worker on GPUs, one with a scripted detector starts; where it asks systemd, a stand-in reads the unit files.
"""

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import boto3
import psycopg
import pytest
from sqlalchemy.engine import make_url

from producers.nightly.schedule import load
from tests.conftest import IN_CI, drop_database
from tests.documents import ROOT
from tests.killing import write_pngs
from tests.processes import fakesweep
from tests.roles import drop_roles

IMAGES = 400
LIMIT_S = 500
DOCUMENT = ROOT / "docs" / "production.md"
SHIMS = {
    "fakesweep": 'if [ "$1" = worker ]; then exec {python} -m tests.scripted_worker 0.05 -1; fi\n'
    'exec {python} -m producers "$@"',
    "systemctl": 'exec {python} -m tests.systemctl "$@"',
    "python3": 'exec {python} "$@"',
}


@dataclass(frozen=True)
class Machine:
    """Takes the place of the operator's machine. `names` are the values of the document's first block."""

    folder: Path
    names: dict[str, str]

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the operator's shell. The document's commands come first on the path."""
        given = {name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "BROKER_URL"}}
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}:/usr/sbin"
        return {
            **given,
            "PATH": path,
            "PYTHONPATH": str(ROOT),
            "FAKESWEEP_THREADS": "4",
            "FAKESWEEP_MAX_QUEUE_DEPTH": "8",
        }

    def check(self, login: str, *words: str) -> None:
        """Checks that a login may run this command of fakesweep."""
        secrets = Path(self.names["SETTINGS"]) / "secrets"
        urls = {name: secrets / f"{login}_{name.lower()}" for name in ("DATABASE_URL", "BROKER_URL")}
        given = {name: path.read_text().strip() for name, path in urls.items() if path.exists()}
        done = fakesweep(*words, environment=given)
        assert done.returncode == 0, done.stderr


def blocks() -> list[str]:
    """The document's bash blocks; those in lists are indented."""
    found = re.findall(r"^( *)```bash\n(.*?)^\1```", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(text) for _, text in found]


def script(names: dict[str, str]) -> str:
    """All blocks as one script, with these values in the first one."""
    first, *others = blocks()
    for name, value in names.items():
        first, count = re.subn(rf"\b{name}=\S+", f"{name}={value}", first)
        assert count == 1, f"the first block no longer sets {name}"
    assert len(re.findall(r"\w+=", first)) == len(names), "the first block sets a name that the test does not know"
    numbered = (f"echo '# block {number}' >&2\n{block}" for number, block in enumerate([first, *others], 1))
    return "set -euo pipefail\n" + "\n".join(numbered)


@pytest.fixture
def machine(postgres_server_url: str, amqp_url: str, bucket: str, tmp_path: Path) -> Iterator[Machine]:
    server, broker = make_url(postgres_server_url), make_url(amqp_url)
    if not shutil.which("rabbitmqctl", path=f"{os.environ['PATH']}:/usr/sbin") or not server.host:
        assert not IN_CI
        pytest.skip("the document needs rabbitmqctl, and a Postgres that has an address")
    unique = f"production_{uuid.uuid4().hex[:8]}"
    names = {
        "PG": f"{server.host}:{server.port or 5432}", "ADMIN": str(server.username), "DATABASE": unique,
        "ROLES": unique, "BROKER": f"{broker.host}:{broker.port or 5672}", "VHOST": unique, "BUCKET": bucket,
        **{name: str(tmp_path / name.lower()) for name in ("SETTINGS", "UNITS", "BACKUPS")},
    }  # fmt: skip
    (tmp_path / "bin").mkdir()
    (tmp_path / "units").mkdir()
    for name, text in SHIMS.items():
        path = tmp_path / "bin" / name
        path.write_text("#!/bin/sh\n" + text.format(python=sys.executable) + "\n")
        path.chmod(0o755)
    yield Machine(tmp_path, names)
    _clean(postgres_server_url, tmp_path, unique)


def _clean(server_url: str, folder: Path, unique: str) -> None:
    for pid in (folder / "units").glob("*.pid"):
        with suppress(ProcessLookupError):
            os.killpg(int(pid.read_text()), signal.SIGKILL)
    for name in (unique, f"{unique}_damaged"):
        drop_database(server_url, name)
    drop_roles(server_url, unique)
    for command in (
        ["delete_vhost", unique],
        *(["delete_user", f"{unique}-{user}"] for user in ("worker", "producer")),
    ):
        path = f"{os.environ['PATH']}:/usr/sbin"
        subprocess.run(["rabbitmqctl", *command], check=False, capture_output=True, env={**os.environ, "PATH": path})


def put_images(bucket: str, folder: Path) -> None:
    client = boto3.client("s3")
    for level, start in ((5, 0), (250, IMAGES // 2)):
        write_pngs(folder, IMAGES // 2, level=level, start=start)
    for path in folder.iterdir():
        client.upload_file(str(path), bucket, f"2026/{path.name}")


def outcomes(path: Path) -> dict[str, tuple[str, str]]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    found = {row["uri"]: (row["outcome"], row["verdict"]) for row in rows}
    assert len(found) == len(rows)
    return found


def stay_connected(names: dict[str, str]) -> None:
    """Connects to the database as soon as there is one, as a dashboard does, until Postgres ends the connection."""
    until = time.monotonic() + LIMIT_S
    while time.monotonic() < until:
        time.sleep(0.2)
        with suppress(psycopg.OperationalError):
            url = f"postgresql://{names['ADMIN']}@{names['PG']}/{names['DATABASE']}"
            connection = psycopg.connect(url, autocommit=True)
            break
    with suppress(psycopg.OperationalError):
        while time.monotonic() < until:
            connection.execute("SELECT 1")
            time.sleep(0.2)


@pytest.mark.timeout(600)
def test_from_an_empty_database_to_a_scan_and_a_restored_backup(machine: Machine, bucket: str) -> None:
    put_images(bucket, machine.folder / "images")
    dashboard = threading.Thread(target=stay_connected, args=[machine.names], daemon=True)
    dashboard.start()
    log = machine.folder / "units" / "shell.log"
    with log.open("wb") as file, suppress(subprocess.TimeoutExpired):
        code = None
        code = subprocess.run(
            ["bash", "-c", script(machine.names)], cwd=ROOT, env=machine.environment, stdout=file, stderr=file,
            check=False, timeout=LIMIT_S, stdin=subprocess.DEVNULL,
        ).returncode  # fmt: skip
    logs = "".join(path.read_text()[-3000:] for path in (machine.folder / "units").glob("*.log"))
    assert code == 0, logs
    before_repair = log.read_text().partition("# block 12\n")[2].splitlines()[:6]  # the first rows of `status`
    assert "runn" in str(before_repair), "the backup holds no running scan"
    backups = Path(machine.names["BACKUPS"])
    one, two = outcomes(backups / "day-one.jsonl"), outcomes(backups / "day-two.jsonl")
    assert one == two
    assert len(one) == IMAGES
    assert {verdict for _, verdict in two.values()} == {"fake", "real"}
    assert {outcome for outcome, _ in two.values()} == {"judged"}
    machine.check("worker", "status")  # the worker's unit waits with these two for Postgres and the broker
    machine.check("worker", "dead", "list")
    machine.check("owner", "migrate")
    secrets = Path(machine.names["SETTINGS"]) / "secrets"
    assert all(path.stat().st_mode & 0o077 == 0 for path in (secrets, *secrets.iterdir()))
    settings = secrets.parent
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (settings, *settings.iterdir())}
    assert modes["fakesweep.env"] == 0o600  # it may hold keys of S3
    assert modes[settings.name] == 0o755  # processes of other users read a CA's file here
    assert list(load(settings / "nightly.toml")) == ["archive"]
