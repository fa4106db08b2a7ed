"""A program in another language: docs/api_client.mjs on Node submits an image and reads its verdict. Everything is real
except the model.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.api import token_for
from tests.conftest import IN_CI
from tests.killing import write_pngs
from tests.processes import ROOT, free_port, running_process, running_worker, wait_for
from worker.database import Database
from worker.tables import Scope

CLIENT = ROOT / "docs" / "api_client.mjs"
NODE = shutil.which("node")


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("clean_broker_url", [pytest.param("amqp", marks=pytest.mark.rabbitmq), "redis"], indirect=True)
def test_a_program_on_node_submits_and_reads_its_verdict(
    clean_broker_url: str, database: Database, database_url: str, tmp_path: Path
) -> None:
    if NODE is None and not IN_CI:
        pytest.skip("there is no Node here")
    uris = write_pngs(tmp_path / "dark", 1) + write_pngs(tmp_path / "bright", 1, level=250)
    port = free_port()
    environment = {
        "DATABASE_URL": database_url,
        "BROKER_URL": clean_broker_url,
        "FAKESWEEP_ALLOWED_FOLDERS": str(tmp_path),
        "FAKESWEEP_API": f"http://127.0.0.1:{port}/v1/",  # people write it with and without the slash
        "FAKESWEEP_TOKEN": token_for(database, Scope.SUBMIT, Scope.READ),
    }
    log = tmp_path / "server.log"
    with (
        running_worker(["tests.scripted_worker", "0", "-1"], environment, tmp_path / "worker.log"),
        running_process(["tests.api_server", str(port)], environment, log) as server,
    ):
        wait_for(lambda: _answers(environment["FAKESWEEP_API"].rstrip("/")), 60, server, log)
        done = _run(uris, environment)
        assert done.returncode == 0, done.stderr
        found = {row["uri"]: row["verdict"] for row in map(json.loads, done.stdout.splitlines())}
        assert found == {uris[0]: "real", uris[1]: "fake"}
        refused = _run(["http://nowhere/a.jpg"], environment)
        assert refused.returncode != 0
        assert "422" in refused.stderr
        bare = _run([], environment)
        assert (bare.returncode, bare.stderr.count("\n"), bare.stderr[:6]) == (2, 1, "usage:")


def _run(uris: list[str], environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [NODE or "node", str(CLIENT), *uris], capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, **environment},
    )  # fmt: skip
