"""Ctrl-C, once and again, in a worker that has an image in hand."""

import signal
import time
from pathlib import Path

from producers.submissions import submit
from tests.integration.test_broker import NO_POISON, settings_for, worker
from tests.killing import write_pngs
from tests.processes import wait_for
from worker.broker import create_app
from worker.database import Database
from worker.messages import ImageRef

SLOW = 5
"""Seconds that an image takes."""


def test_a_second_ctrl_c_ends_a_worker_without_a_traceback(
    database: Database, database_url: str, clean_redis_url: str, tmp_path: Path
) -> None:
    (image,) = write_pngs(tmp_path / "images", 1)
    submit(create_app(clean_redis_url), database, [ImageRef(uri=image)])
    with worker(str(SLOW), NO_POISON, settings_for(database_url, clean_redis_url), tmp_path) as running:
        time.sleep(1)  # it judges the image now
        for said in ("Warm shutdown", "Hitting Ctrl+C again will terminate"):
            running.process.send_signal(signal.SIGINT)
            wait_for(lambda said=said: said in running.log.read_text(), 20, running.process, running.log)  # type: ignore[misc]
        assert running.process.wait(60) in {0, 1}
        assert "Traceback" not in running.log.read_text()
