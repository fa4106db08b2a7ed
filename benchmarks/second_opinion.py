"""What does a second opinion cost the host? CPU time of a worker per image, with two detectors and with one.

Both engines cost nothing, so all that is measured is our own work: one fetch, one decode and one hash serve both
detectors, and a second verdict is stored. The same worker sweeps both kinds of scans in turns, on images that it has
never seen.
"""

from collections.abc import Iterator, Sequence

import psutil

from benchmarks.comparison import Comparison, Wanted, in_turns
from benchmarks.pictures import files
from benchmarks.rig import Rig, rig
from worker.messages import ImageRef

ROUNDS = 3
COUNTS = {"0.3": 480, "3": 96}
"""Images per round, by megapixels."""
TARGET = 1.3
FURTHER = "second"


def compare(wanted: Wanted) -> Iterator[Comparison]:
    """Compares the CPU seconds per image of a scan with two detectors with those of a scan with one."""
    chosen = {size: count for size, count in COUNTS.items() if wanted(_name(size))}
    if not chosen:
        return
    with rig() as services, services.worker(["benchmarks.costless_worker", FURTHER], {}) as worker:
        for also in ((), (FURTHER,)):  # for everything that is made on first use
            services.sweep(services.store(files("0.3", "jpeg", 160, seed=90 + len(also))), also=also)
        for size, count in chosen.items():
            rounds = iter([services.store(files(size, "jpeg", count, seed=number)) for number in range(2 * ROUNDS)])
            two, one = in_turns(
                lambda rounds=rounds: _cost(services, worker, next(rounds), (FURTHER,)),  # type: ignore[misc]
                lambda rounds=rounds: _cost(services, worker, next(rounds), ()),  # type: ignore[misc]
                ROUNDS,
            )
            yield Comparison(_name(size), "CPU seconds per image", two, one, TARGET, higher_is_better=False)


def _name(size: str) -> str:
    return f"second_opinion.{size}"


def _cost(services: Rig, worker: psutil.Process, refs: Sequence[ImageRef], also: tuple[str, ...]) -> float:
    before = sum(worker.cpu_times()[:2])
    services.sweep(refs, also=also)
    return (sum(worker.cpu_times()[:2]) - before) / len(refs)
