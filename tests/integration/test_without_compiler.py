"""The demo on a machine without a C++ compiler: it is installed, and its worker works, without near duplicates."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.integration.test_broker import settings_for
from tests.killing import write_pngs
from tests.processes import ROOT, fakesweep, running_worker


def test_the_installation_continues_and_says_what_is_missing(tmp_path: Path) -> None:
    """pip fails here because it finds no packages. Without a compiler, it would end with an error as well."""
    script = "from deploy.demo.install import install_if_possible; install_if_possible('near'); print('went on')"
    given = {"PIP_NO_INDEX": "1", "PIP_TARGET": str(tmp_path), "PATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, **given},
    )  # fmt: skip
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "went on"), done.stderr
    assert "Near duplicates will not be found: 'near' needs a C++ compiler, such as Debian's g++" in done.stderr


def test_a_worker_says_once_that_near_duplicates_are_not_found_and_works(
    database_url: str, clean_redis_url: str, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    write_pngs(images, 5, level=250)
    environment = settings_for(database_url, clean_redis_url)
    module = ["tests.worker_without_pdqhash", "0", "-1"]
    with running_worker(module, environment, tmp_path / "log", 60) as worker:
        done = fakesweep("scan", str(images), "--watch", "--json", environment=environment)
        scan = json.loads(done.stdout)
        assert (scan["status"], scan["judged"], scan["failed"]) == ("done", 5, 0), worker.log.read_text()[-3000:]
        assert worker.log.read_text().count("near_duplicates_not_found") == 1
        assert worker.stop() == 0
