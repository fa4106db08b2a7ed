"""`make review`, with a scripted engine in place of vLLM: it scans images, and runs the desk until Ctrl-C."""

import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import psutil
import pytest

from deploy.demo import review
from deploy.demo.processes import StartError, running, session_members
from deploy.demo.run import BUCKET
from deploy.demo.services import HOST
from deploy.demo.sweep import Sweep, SweepError
from deploy.demo.upload import upload_folder
from tests.conftest import DEMO_DETECTOR
from tests.integration.test_broker import grey, query
from tests.processes import READY, ROOT, wait_for

WORKER = [sys.executable, "-m", "tests.scripted_worker", "0", "999"]


@pytest.fixture
def sweep(tmp_path: Path, database_url: str, clean_redis_url: str, s3_url: str) -> Sweep:
    return Sweep(tmp_path, DEMO_DETECTOR, database_url, clean_redis_url, s3_url)


def test_a_scan_leaves_reviewers_something_to_do(sweep: Sweep, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for level in range(0, 250, 5):
        (images / f"{level}.png").write_bytes(grey(level))
    upload_folder(images, BUCKET, endpoint=sweep.s3_endpoint, without=tmp_path / "none", stored=lambda _: None)
    log = tmp_path / "worker.log"
    ready = READY.encode()
    with ExitStack() as stack:
        stack.enter_context(
            running("the worker", WORKER, log, lambda _: ready in log.read_bytes(), env=sweep.environment(), cwd=ROOT)
        )
        review.scan(sweep)
        review.add_people(sweep)
        assert query(sweep.database_url, "SELECT status, judged FROM scans") == [("done", 50)]
        ((waiting,),) = query(sweep.database_url, "SELECT count(*) FROM review_queue")
        assert 20 <= waiting <= 40
        process, address = stack.enter_context(review.desk(sweep))
        login = httpx.get(f"{address}/login", trust_env=False).text
        for name, role in review.PEOPLE.items():
            assert f"{name} ({role})" in login
    assert process.poll() is not None


def test_it_says_when_the_desk_ends_by_itself(sweep: Sweep) -> None:
    with review.desk(sweep) as (process, _):
        process.kill()
        with pytest.raises(SweepError, match="the review desk ended with code -9"):
            review.stay(sweep, process)


def test_a_desk_that_cannot_start_says_why(sweep: Sweep) -> None:
    sweep.broker_url = ""
    with pytest.raises(StartError, match="BROKER_URL is not set"), review.desk(sweep):
        pass


def test_another_port_is_used_if_the_first_one_is_taken() -> None:
    with closing(socket.create_server((HOST, 0))) as taken:
        port = taken.getsockname()[1]
        assert review.free_port(port) not in {0, port}


def test_bad_usage_is_reported_before_anything_starts(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "deploy.demo.review", str(tmp_path / "none")], cwd=ROOT, capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert "is not a folder" in done.stderr


def test_ctrl_c_ends_the_desk_with_exit_code_0(sweep: Sweep) -> None:
    script = (
        "import sys\n"
        "from deploy.demo import review\n"
        "from deploy.demo.run import ended\n"
        "from deploy.demo.sweep import Sweep\n"
        "from pathlib import Path\n"
        "sweep = Sweep(Path(sys.argv[1]), Path('.'), *sys.argv[2:])\n"
        "def work():\n"
        "    with review.desk(sweep) as (process, address):\n"
        "        print(address, flush=True)\n"
        "        review.stay(sweep, process)\n"
        "sys.exit(ended('make review', work))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(sweep.home), sweep.database_url, sweep.broker_url, sweep.s3_endpoint],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout
    assert process.stdout.readline() == "Starting the review desk\n"
    assert process.stdout.readline().strip().startswith(f"http://{HOST}:")
    (desk,) = [one.pid for one in psutil.Process(process.pid).children()]
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    wait_for(lambda: not session_members(desk), 20)
