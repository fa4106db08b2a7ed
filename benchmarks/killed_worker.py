"""How much work is lost if a worker is killed (SIGKILL) many times, and do healthy images fail?

    python -m benchmarks.killed_worker [--kills 5] [--every 60]
    python -m benchmarks.killed_worker --scripted --kills 50 --every 3
    python -m benchmarks.killed_worker --signal SIGTERM --kills 10 --every 15

First, one worker judges a scan and is not killed. It runs for KILLS times EVERY seconds. Then workers judge another
scan, one after the other. Each is killed EVERY seconds after it is ready. The engine is vLLM with the demo detector.
With --scripted, it is an engine that takes 20 ms per image, and a last worker is not killed and finishes the scan. With
--signal SIGTERM, the workers are asked to stop instead.
"""

import argparse
import io
import signal
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from PIL import Image
from sqlalchemy import text

from benchmarks.drawings import drawings
from benchmarks.rig import SMALL_ENGINE, Rig, rig
from benchmarks.scratch import write_result
from producers.retention import forget_messages
from worker.messages import ImageRef

IMAGES_A_SECOND = {False: 20, True: 300}
"""Images of a scan per second, by --scripted. They are more than a worker can judge, so that no scan ends early."""
CHUNK = 500
"""How many objects are in memory at once."""
SCRIPTED = ["tests.scripted_worker", "0.02", "-1"]
_COUNTS = """
SELECT count(*) FILTER (WHERE outcome = 'judged') AS judged, count(*) FILTER (WHERE outcome = 'failed') AS failed,
       (SELECT count(*) - count(DISTINCT sha256) FROM verdicts) AS judged_again,
       (SELECT count(*) FROM suspects) + (SELECT count(*) FROM message_tries) AS rows_left_behind
FROM findings WHERE scan_id = :scan
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--every", type=float, default=60, metavar="SECONDS")
    parser.add_argument("--scripted", action="store_true")
    parser.add_argument("--signal", choices=["SIGKILL", "SIGTERM"], default="SIGKILL")
    options = parser.parse_args()
    module = SCRIPTED if options.scripted else ["worker"]
    ready_s, end = options.kills * options.every, signal.Signals[options.signal]
    with rig() as services:
        files = [_grey()] if options.scripted else drawings(200)
        count = round(ready_s * IMAGES_A_SECOND[options.scripted]) + 500
        alone = _judged(services, module, _stored(services, "alone", files, count), ready_s, 1, signal.SIGTERM)[0]
        services.empty_queues()
        forget_messages(services.database, datetime.now(UTC))  # messages that are no longer in the queue
        refs = _stored(services, "killed", files, count)
        killed, apart, scan = _judged(services, module, refs, options.every, options.kills, end)
        after = _ended(services, module, scan) if options.scripted else _counts(services, scan)
    result = {"kills": options.kills, "ready_seconds": ready_s, "judged_when_left_alone": alone}
    more = {
        "judged_when_killed": killed,
        "ratio": round(killed / alone, 3),
        "messages_taken_apart": apart,
        "of_the_killed_scan_at_last": after,
    }
    name = "killed_worker" if end is signal.SIGKILL else "stopped_worker"
    write_result(f"{name}_scripted" if options.scripted else name, result | more)


def _stored(services: Rig, name: str, files: Sequence[bytes], count: int) -> list[ImageRef]:
    """Stores `count` objects with different contents: the files, with the object's name after their end."""
    refs: list[ImageRef] = []
    for start in range(0, count, CHUNK):
        names = [f"{name}/{number:06d}" for number in range(start, min(start + CHUNK, count))]
        refs += services.store({key: files[at % len(files)] + key.encode() for at, key in enumerate(names)})
    return refs


def _grey() -> bytes:
    target = io.BytesIO()
    Image.new("RGB", (32, 32), (60, 60, 60)).save(target, "PNG")
    return target.getvalue()


def _judged(
    services: Rig, module: list[str], refs: list[ImageRef], seconds: float, times: int, end: signal.Signals
) -> tuple[int, int, UUID]:
    """Runs workers on a scan, one after the other, each for `seconds` after it is ready.

    Returns how many images they judged, how many suspect messages they judged image by image, and the scan.
    """
    scan, taken_apart = services.start_scan(refs), 0
    for _ in range(times):
        with services.worker(module, SMALL_ENGINE, end=end):
            time.sleep(seconds)
            judged = _counts(services, scan)["judged"]
        taken_apart += services.log_of(module).count('"images_judged_one_by_one"')
    return judged, taken_apart, scan


def _ended(services: Rig, module: list[str], scan: UUID) -> dict[str, Any]:
    with services.worker(module, SMALL_ENGINE):
        services.wait_for(scan)
        until = time.monotonic() + 60
        # Some messages have only decided images: those that still wait, and those that the worker has in hand.
        while services.waiting() or (_counts(services, scan)["rows_left_behind"] and time.monotonic() < until):
            time.sleep(0.2)
    return _counts(services, scan)


def _counts(services: Rig, scan: UUID) -> dict[str, Any]:
    with services.database.connect() as connection:
        return dict(connection.execute(text(_COUNTS), {"scan": scan}).mappings().one())


if __name__ == "__main__":
    main()
