"""A producer is killed at random moments of one scan, many times: do the findings equal the listing?

    python -m benchmarks.killed_producer [--kills 50]

It runs once with the command itself, and once with a producer that commits small chunks, so that kills hit all steps of
a scan. The broker is a Redis of its own, and the worker's engine is scripted.
"""

import argparse
import tempfile
import time
from pathlib import Path

from benchmarks.scratch import scratch_database, write_result
from deploy.demo.services import embedded_redis
from tests.killing import command_line, in_small_chunks, sweep_with_kills, write_pngs

IMAGES_A_KILL = 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    kills = parser.parse_args().kills
    figures = {}
    for producer in (command_line, in_small_chunks):
        with tempfile.TemporaryDirectory() as folder, scratch_database() as (url, _database):
            home = Path(folder)
            listed = write_pngs(home / "images", IMAGES_A_KILL * kills)
            started = time.perf_counter()
            with embedded_redis(home / "redis") as broker_url:
                environment = {"DATABASE_URL": url, "BROKER_URL": broker_url}
                swept = sweep_with_kills(kills, environment, home / "images", home, producer=producer, ends_s=600)
            figures[producer.__name__] = {
                "kills_that_met_the_producer": swept.kills,
                "images": len(listed),
                "status": swept.status,
                "listed": swept.listed,
                "findings": len(swept.uris),
                "findings_are_the_listing": swept.uris == listed,
                "seconds": round(time.perf_counter() - started),
            }
    write_result("killed_producer", figures)


if __name__ == "__main__":
    main()
