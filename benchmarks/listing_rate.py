"""How fast are the keys of a manifest published, and known keys skipped? Uses the tests' RabbitMQ and Postgres.

    python -m benchmarks.listing_rate [--keys 1000000]

Runs `fakesweep scan` as a process: with a tenth of the keys, with all of them, and with all of them again when they are
known. In the same run, a bare kombu loop publishes the same messages, with kombu's confirmations and without them.
"""

import argparse
import tempfile
from pathlib import Path

from benchmarks.publish import bare_kombu
from benchmarks.scratch import know_images, scratch_database, write_result
from benchmarks.sweeps import empty_queue, sweep, write_manifest
from worker.database.detectors import register_detector
from worker.messages import MAX_IMAGES
from worker.testing import scripted_description

CONFIRMED_SAMPLE = 5000
"""Messages of the loop that waits for each confirmation, because each takes a millisecond."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=1_000_000)
    keys = parser.parse_args().keys
    with tempfile.TemporaryDirectory() as folder, scratch_database() as (url, database), empty_queue() as rabbit:
        tenth, whole = write_manifest(Path(folder), keys // 10), write_manifest(Path(folder), keys)
        small = sweep(tenth, url, rabbit)
        first = sweep(whole, url, rabbit)
        bare, confirmed = bare_kombu(keys // MAX_IMAGES, confirm=False), bare_kombu(CONFIRMED_SAMPLE, confirm=True)
        know_images(url, register_detector(database, scripted_description().row()), keys)
        second = sweep(whole, url, rabbit)
    write_result(
        "listing_rate",
        {
            "keys": keys,
            "first_scan": first,
            "second_scan": second,
            "bare_kombu_keys_per_s": {"without_confirmations": bare, "each_confirmed": confirmed},
            "first_scan_to_bare_without_confirmations": round(first["keys_per_s"] / bare, 2),
            "first_scan_to_bare_each_confirmed": round(first["keys_per_s"] / confirmed, 2),
            "peak_memory_to_that_of_a_tenth": round(first["peak_memory_mib"] / small["peak_memory_mib"], 2),
            "a_tenth": small,
        },
    )


if __name__ == "__main__":
    main()
