"""How long does a live image wait while a scan keeps the worker busy, and how much slower is the scan?

The reference is an idle worker. Uses real vLLM with the demo detector. One live image comes every two seconds, for a
verdict only or with an explanation. The time runs from its submission to its committed row.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from uuid import UUID

from celery import Celery

from benchmarks.comparison import Comparison, Wanted
from benchmarks.drawings import drawings, stored
from benchmarks.rig import SMALL_ENGINE, Rig, rig
from benchmarks.scratch import AMQP
from producers.scans import cancel
from producers.submissions import submit
from worker import broker
from worker.messages import Explain, ImageRef, Policy

ROUNDS = 2
EVERY_S = 2.0
PHASE_S = 40.0
"""20 live images come in a phase, or fewer if each of them waits for longer than EVERY_S."""
LIVE_IMAGES = round(PHASE_S / EVERY_S)
SCAN_TIMES = 8
"""How many times 240 images the scan has: more than a worker judges in two phases."""
SETTLE_S = 10.0
"""How long a scan runs before it counts as having filled the worker."""
KINDS = {"verdict": Explain.NONE, "explained": Explain.ALL}
NAMES = ("live_latency.verdict", "live_latency.explained", "live_latency.scan_throughput")


@dataclass
class _Figures:
    idle: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    scan_with_live: list[float] = field(default_factory=list)
    scan_alone: list[float] = field(default_factory=list)


def compare(wanted: Wanted) -> Iterator[Comparison]:
    """Compares p99 latencies in seconds, busy and idle, and the scan's rate with and without live images."""
    if not any(wanted(name) for name in NAMES):
        return
    figures = {kind: _Figures() for kind in KINDS}
    scan_files, live_files = drawings(240), drawings(LIVE_IMAGES)
    with rig() as services, services.worker(["worker"], SMALL_ENGINE):
        sweeps = stored(services, "scan", scan_files, 100)
        live = stored(services, "live", live_files, 100)
        services.sweep(next(live))
        app = broker.create_app(AMQP)
        for _ in range(ROUNDS):
            for kind, explain in KINDS.items():
                _round(services, app, figures[kind], explain, sweeps, live)
    for kind, found in figures.items():
        yield _latency(f"live_latency.{kind}", found)
    with_live = tuple(rate for found in figures.values() for rate in found.scan_with_live)
    alone = tuple(rate for found in figures.values() for rate in found.scan_alone)
    yield Comparison("live_latency.scan_throughput", "images/s", with_live, alone, 0.95, higher_is_better=True)


def _latency(name: str, found: _Figures) -> Comparison:
    return Comparison(name, "seconds (p99)", tuple(found.busy), tuple(found.idle), 3.0, higher_is_better=False)


def _round(
    services: Rig,
    app: Celery,
    found: _Figures,
    explain: Explain,
    sweeps: Iterator[list[ImageRef]],
    live: Iterator[list[ImageRef]],
) -> None:
    """Sends live images alone, then with a scan, and then measures the scan alone for the same time."""
    found.idle.append(_p99(_submit_all(services, app, next(live), explain)))
    refs = [ref for _ in range(SCAN_TIMES) for ref in next(sweeps)]
    scan_id = services.start_scan(refs)
    time.sleep(SETTLE_S)
    more = next(live)
    latencies, rate = _rate_meanwhile(services, scan_id, lambda: _submit_all(services, app, more, explain))
    found.busy.append(_p99(latencies))
    found.scan_with_live.append(rate)
    _, rate = _rate_meanwhile(services, scan_id, lambda: _sleep(PHASE_S))
    found.scan_alone.append(rate)
    with suppress(Exception):
        cancel(services.database, scan_id)
    _drain(services, scan_id)


def _submit_all(services: Rig, app: Celery, refs: list[ImageRef], explain: Explain) -> list[float]:
    """Returns the seconds of each image from its submission to its row. At most one is sent every EVERY_S."""
    latencies: list[float] = []
    until = time.perf_counter() + PHASE_S
    for ref in refs:
        if time.perf_counter() > until:
            break
        started = time.perf_counter()
        services.wait_for(submit(app, services.database, [ref], policy=Policy(explain=explain)))
        latencies.append(time.perf_counter() - started)
        time.sleep(max(0.0, EVERY_S - latencies[-1]))
    return latencies


def _sleep(seconds: float) -> list[float]:
    time.sleep(seconds)
    return []


def _rate_meanwhile(services: Rig, scan_id: UUID, work: Callable[[], list[float]]) -> tuple[list[float], float]:
    """Runs the work. Returns its result, and the scan's images per second during it."""
    before, started = services.progress(scan_id)[0], time.perf_counter()
    latencies = work()
    after, done = services.progress(scan_id)
    if done:
        raise SystemExit("the scan was over too soon: it must keep the worker busy all the time")
    return latencies, (after - before) / (time.perf_counter() - started)


def _drain(services: Rig, scan_id: UUID) -> None:
    """Returns when the worker no longer judges images of the scan."""
    before = -1
    while before != (before := services.progress(scan_id)[0]):
        time.sleep(5)


def _p99(latencies: list[float]) -> float:
    """Returns the nearest rank, which is the worst of fewer than a hundred figures."""
    return sorted(latencies)[math.ceil(0.99 * len(latencies)) - 1]
