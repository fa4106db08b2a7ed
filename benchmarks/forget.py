"""How long does it take to forget one picture among a million, with two scans of all of them?

python -m benchmarks.forget [--images 1000000]

Some columns that may name a uri have no index, so the command reads whole tables (docs/decisions/0029).
"""

import argparse
import time
from collections.abc import Callable
from typing import TypeVar

from benchmarks.load_findings import KnownImages, load
from benchmarks.scratch import know_images, scratch_database, uri_of, write_result
from producers.forgetting import find_picture, forget, is_named_again
from worker.database.detectors import register_detector
from worker.testing import scripted_description

SCANS = 2
T = TypeVar("T")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_000_000)
    images = parser.parse_args().images
    with scratch_database() as (url, database):
        know_images(url, register_detector(database, scripted_description().row()), images)
        source = KnownImages(images)
        for _ in range(SCANS):
            load(database, source)
        uri = uri_of(images // 2)
        found_s, picture = _timed(lambda: find_picture(database, uri))
        forgotten_s, done = _timed(lambda: forget(database, picture))
        checked_s, again = _timed(lambda: is_named_again(database, picture))
        if again or done.rows.get("findings") != SCANS:
            raise SystemExit(f"{uri} was not forgotten: {dict(done.rows)}")
    seconds = {"find": found_s, "forget": forgotten_s, "check": checked_s}
    write_result("forget", {"images": images, "scans": SCANS, "seconds": seconds, "rows": dict(done.rows)})


def _timed(work: Callable[[], T]) -> tuple[float, T]:
    started = time.perf_counter()
    result = work()
    return round(time.perf_counter() - started, 2), result


if __name__ == "__main__":
    main()
