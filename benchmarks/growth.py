"""How long do 100 million new images take on 1 to 64 GPUs, and what holds them back?

    python -m benchmarks.growth            # writes results/growth.json
    python -m benchmarks.growth --check    # predicts and runs a small scan with 1, 2 and 4 scripted workers

A model in steps of half a second: a producer publishes while the queue has room, workers take from the queue, Postgres
saves what they judged, and KEDA starts and ends workers by the length of the queue. Nothing in it is random.
"""

import argparse
import json
import math
from collections import Counter
from dataclasses import asdict, dataclass, replace
from typing import Any

from benchmarks.scratch import RESULTS, write_result

IMAGES = 100_000_000
GPUS = (1, 2, 4, 8, 16, 32, 64)
MESSAGE = 16
STEP_S = 0.5
"""How often the producer checks whether the queue has room (producers.bulk.LOOK_AGAIN_S)."""

TFLOP_AN_IMAGE = 8.5
"""A prompt of 590 tokens through 7 billion parameters, and the vision tower: docs/production.md has the arithmetic."""
SHARE_OF_PEAK = 0.5
FP8_GAIN = 1.6
EXPLANATION_GB = 42.0
"""Memory read for the 120 tokens of an explanation: 0.35 GB of keys and values for each."""
FLAGGED = 0.05
CARDS = {"H200": (989, 4800), "H100": (989, 3350), "A100": (312, 2039), "L40S": (362, 864), "L4": (121, 300)}
"""Peak of bfloat16 without sparsity in TFLOP/s, and bandwidth of the memory in GB/s, as the vendor states them."""


@dataclass(frozen=True)
class Rates:
    """How fast the parts are. `gpu` is images per second, `published` and `saved` are messages per second."""

    gpu: float
    published: float
    saved: float
    bound: int = 2000
    in_hand: int = 32
    """Messages that a worker has taken: FAKESWEEP_THREADS."""
    start_s: float = 180
    poll_s: float = 30
    stays_s: float = 300
    """How long Kubernetes waits before it ends a worker that is not needed any more."""


@dataclass(frozen=True)
class Course:
    """The result of a simulation. `limits`: the share of the time in which each part was the slowest one."""

    seconds: float
    hours: float
    gpu_hours: float
    idle_share: float
    images_per_s: float
    limits: dict[str, float]


def estimate(card: str, precision: str) -> float:
    """Returns the images per second of one GPU. This is an estimate: nobody has measured it."""
    tflops, bandwidth = CARDS[card]
    seconds = TFLOP_AN_IMAGE / (tflops * SHARE_OF_PEAK * (FP8_GAIN if precision == "fp8" else 1))
    return 1 / (seconds + FLAGGED * EXPLANATION_GB / bandwidth)


def simulate(images: float, gpus: int, rates: Rates, *, autoscaled: bool = True) -> Course:
    """Simulates one scan. Without autoscaling, all workers are ready at the beginning."""
    left, queue, hand, done, now, gpu_s = images / MESSAGE, 0.0, 0.0, 0.0, 0.0, 0.0
    started = [] if autoscaled else [-rates.start_s] * gpus
    limits: Counter[str] = Counter()
    while done < images / MESSAGE - 1e-6:
        if autoscaled and now % rates.poll_s == 0:
            started += [now] * (_wanted(queue + hand, gpus, len(started), rates) - len(started))
        ready = sum(now - at >= rates.start_s for at in started)
        published = min(left, rates.published * STEP_S, max(0.0, rates.bound - queue))
        left, queue = left - published, queue + published
        taken = min(queue, max(0.0, ready * rates.in_hand - hand))
        queue, hand = queue - taken, hand + taken
        judged = min(hand, ready * rates.gpu / MESSAGE * STEP_S)
        saved = min(judged, rates.saved * STEP_S)
        hand, done = hand - saved, done + saved
        limits[_slowest(ready, len(started), judged, saved, left, rates)] += 1
        gpu_s += len(started) * STEP_S
        now += STEP_S
    gpu_s += len(started) * rates.stays_s if autoscaled else 0
    steps = sum(limits.values())
    return Course(
        seconds=now,
        hours=round(now / 3600, 2),
        gpu_hours=round(gpu_s / 3600, 1),
        idle_share=round(1 - images / rates.gpu / gpu_s, 3),
        images_per_s=round(images / now, 1),
        limits={name: round(count / steps, 3) for name, count in limits.most_common()},
    )


def _wanted(messages: float, most: int, running: int, rates: Rates) -> int:
    """Returns how many workers KEDA wants: the messages that wait or that workers hold, divided by a target.

    In one step, the number at most doubles, or grows by four if that is more.
    """
    target = rates.bound / most  # a full queue asks for all workers
    return max(running, min(most, math.ceil(messages / target), max(2 * running, running + 4)))


def _slowest(ready: int, started: int, judged: float, saved: float, left: float, rates: Rates) -> str:
    able = ready * rates.gpu / MESSAGE * STEP_S
    if saved < judged:
        return "database"
    if ready < started or not ready:
        return "start of workers"
    if judged < able * 0.999:
        return "producer or queue" if left > 0 else "end of the scan"
    return "GPUs"


def measured() -> dict[str, float]:
    """Returns the messages per second that a producer publishes, and that 16 processes save into one scan."""
    found = {row["name"]: row["ours"] for row in json.loads((RESULTS / "bench.json").read_text())}
    return {
        "published": found["publish.rate"] / MESSAGE,
        "saved": found["hot_row.round_trip"],
        "saved_slow_commit": found["hot_row.slow_commit"],
    }


def sizes() -> dict[str, Any]:
    """The figures of results/growth.json."""
    inputs = measured()
    rates = Rates(estimate("H100", "bf16"), inputs["published"], inputs["saved"])
    cases = {
        "H100 bf16": rates,
        "H100 fp8": replace(rates, gpu=estimate("H100", "fp8")),
        "H100 fp8, slow commits": replace(rates, gpu=estimate("H100", "fp8"), saved=inputs["saved_slow_commit"]),
        "H100 fp8, database four times as fast": replace(rates, gpu=estimate("H100", "fp8"), saved=4 * inputs["saved"]),
        "H100 bf16, queue of 100 messages": replace(rates, bound=100),
    }
    return {
        "images": IMAGES,
        "inputs": inputs | {"sources": "bench.json: publish.rate, hot_row.round_trip, hot_row.slow_commit"},
        "assumed": {"share_of_peak": SHARE_OF_PEAK, "fp8_gain": FP8_GAIN, "flagged": FLAGGED, **asdict(rates)},
        "estimated_images_per_s": {card: {p: round(estimate(card, p), 1) for p in ("bf16", "fp8")} for card in CARDS},
        "courses": {
            name: {str(gpus): asdict(simulate(IMAGES, gpus, case)) for gpus in GPUS} for name, case in cases.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="run a small scan, and write results/growth_check.json")
    if parser.parse_args().check:
        from benchmarks.growth_check import check  # noqa: PLC0415 - it starts workers

        write_result("growth_check", check())
    else:
        write_result("growth", sizes())


if __name__ == "__main__":
    main()
