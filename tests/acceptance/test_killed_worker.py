"""A worker that is killed while it judges leaves no process. A process of vLLM would keep the GPU's memory."""

import signal
from pathlib import Path

import psutil
import psycopg
import pytest

from deploy.demo.draw import draw_record
from tests.acceptance.test_service import environment_for
from tests.processes import fakesweep, living, running_worker, wait_for

COPIES = 100
"""How often each image is copied. There are more copies than a worker judges before it is killed."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("gpus", [[], ["--gpus", "0"]], ids=["alone", "with --gpus"])
def test_no_process_is_left_after_ten_seconds(
    clean_redis_url: str, database_url: str, tmp_path: Path, gpus: list[str]
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number in range(8):
        draw_record(number, seed=7, folder=tmp_path)
    for path in list(images.iterdir()):
        for copy in range(COPIES):
            (images / f"{copy}-{path.name}").write_bytes(path.read_bytes() + b"." * copy)
    environment = environment_for(database_url, clean_redis_url)
    with running_worker(["producers", "worker", *gpus], environment, tmp_path / "worker.log", ready_s=300) as worker:
        processes = [psutil.Process(worker.process.pid), *psutil.Process(worker.process.pid).children(recursive=True)]
        assert any("EngineCore" in " ".join([one.name(), *one.cmdline()]) for one in processes)
        scan = fakesweep("scan", str(images), environment=environment)
        assert scan.returncode == 0, scan.stderr
        with psycopg.connect(database_url, autocommit=True) as connection:
            judged = "SELECT judged > 0 AND status = 'running' FROM scans"
            wait_for(lambda: connection.execute(judged).fetchone() == (True,), 120, worker.process, worker.log)
        assert worker.stop(signal.SIGKILL) == -signal.SIGKILL
        try:
            wait_for(lambda: not living(processes), 10)
        finally:
            for process in living(processes):
                process.kill()
