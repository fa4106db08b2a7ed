"""Lists the benchmarks by name, and runs one of them in a process of its own."""

import importlib
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from benchmarks.comparison import selection

BENCHMARKS = {
    "host_path": "benchmarks.host_path",
    "front_end": "benchmarks.front_end",
    "statements": "benchmarks.statements",
    "hot_row": "benchmarks.hot_row",
    "end_to_end": "benchmarks.end_to_end",
    "live_latency": "benchmarks.live_latency",
    "large_jpeg": "benchmarks.large_jpeg",
    "publish": "benchmarks.publish",
    "second_scan": "benchmarks.second_scan",
    "second_night": "benchmarks.second_night",
    "load_findings": "benchmarks.load_findings",
    "memory": "benchmarks.memory",
    "desk_pictures": "benchmarks.desk_pictures",
    "near": "benchmarks.near",
    "second_opinion": "benchmarks.second_opinion",
}
"""Modules with `compare(wanted: Wanted) -> Iterable[Comparison]`. Their names begin with the name given here."""


def measure(name: str, only: Sequence[str]) -> list[dict[str, Any]]:
    """Returns the rows of a benchmark's comparisons, or only of those that `only` names.

    It runs in a fresh process, so that engines, pools and memory of one benchmark do not affect the next one.
    """
    # Spawned, because a fork would copy threads and sockets of the parent.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(_compare, name, only).result()


def _compare(name: str, only: Sequence[str]) -> list[dict[str, Any]]:
    wanted = selection(only)
    found = importlib.import_module(BENCHMARKS[name]).compare(wanted)
    return [comparison.row() for comparison in found if wanted(comparison.name)]
