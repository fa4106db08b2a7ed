"""The kinds of faults: what each works on, how often it comes, and for which reasons images may fail because of it.

To add a kind, write a function in causes.py and a line in kinds().
"""

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from random import Random

from tests.chaos import causes
from tests.chaos.bucket import MISBEHAVIOURS, REASONS
from tests.chaos.causes import Heal
from tests.chaos.ground import Ground
from tests.chaos.toxics import Bandwidth, Latency, LimitData, ResetPeer, Slicer, SlowClose, Timeout, Toxic


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    No two faults work on the same `place` at the same time. A kind with a larger `weight` comes more often.
    `longest_s`: the longest time until the fault is healed. `reasons`: the reason codes that images may have because of
    it.
    """

    name: str
    place: str
    weight: float
    cause: Callable[[Ground, Random], Heal]
    longest_s: float = 1.5
    reasons: tuple[str, ...] = ()


DEATH = ("engine_failed",)
"""An image that was alone at two deaths of a worker fails, whatever killed the workers."""
STORAGE = ("storage_unavailable",)
TOXICS: dict[str, Callable[[Random], Toxic]] = {
    "latency": lambda chance: Latency(latency_s=chance.uniform(0.05, 0.6), jitter_s=0.05),
    "bandwidth": lambda chance: Bandwidth(bytes_a_s=chance.choice((500, 4_000, 20_000))),
    "slow_close": lambda chance: SlowClose(delay_s=chance.uniform(0.2, 1)),
    "timeout": lambda chance: Timeout(timeout_s=chance.choice((0, 0.3))),
    "reset_peer": lambda chance: ResetPeer(timeout_s=chance.choice((0, 0.2))),
    "slicer": lambda chance: Slicer(average_size=chance.choice((1, 20, 100)), delay_s=0.001),
    "limit_data": lambda chance: LimitData(limit_bytes=chance.choice((0, 50, 500, 5_000))),
}


def kinds(ground: Ground) -> Iterator[Kind]:
    """Yields all kinds that can be caused on this ground."""
    for name, number in (("sigkill", signal.SIGKILL), ("sigterm", signal.SIGTERM)):
        yield Kind(f"worker_{name}", "worker", 2, partial(causes.kill_worker, number=number), reasons=DEATH)
        yield Kind(f"producer_{name}", "producer", 3, partial(causes.kill_producer, number=number), 0.1)
    heavy = 1 if ground.broker.name == "rabbitmq" else 2  # RabbitMQ needs eight seconds to start
    for name, number in (("sigkill", signal.SIGKILL), ("sigterm", signal.SIGTERM)):
        yield Kind(f"{ground.broker.name}_{name}", "broker", heavy, partial(causes.restart_broker, number=number), 1)
    for name, number in (("sigkill", signal.SIGKILL), ("fast", signal.SIGINT), ("immediate", signal.SIGQUIT)):
        yield Kind(f"postgres_{name}", "postgres", 1, partial(causes.restart_postgres, number=number), 1)
    yield Kind("postgres_backend_killed", "postgres", 1, causes.kill_backend, 0.2)
    for place in ("broker", "postgres", "s3"):
        for name, toxic in TOXICS.items():
            reasons = STORAGE if place == "s3" else ()
            link = ground.broker.name if place == "broker" else place
            cause = partial(causes.poison, place=place, toxic=toxic)
            yield Kind(f"{link}_{name}", f"{place} link", 1, cause, reasons=reasons)
    for how in MISBEHAVIOURS:
        yield Kind(f"s3_answers_{how}", "s3", 1, partial(causes.misbehave, how=how), reasons=(REASONS[how], *STORAGE))
    yield Kind("s3_listing_refused", "s3", 1, causes.refuse_listing)
    for how in ("die", "hang", "fail", "crash"):
        yield Kind(f"engine_{how}", "engine", 1, partial(causes.strike_engine, how=how), 3, DEATH)
    yield Kind("message_twice", "messages", 2, causes.publish_copies, 0.1)
    yield Kind("message_malformed", "messages", 1, causes.publish_malformed, 0.1)
    if "full_disk" not in ground.missing:
        yield Kind("full_disk", "postgres", 1, causes.fill_disk)
    if "clock_jump" not in ground.missing:
        yield Kind("clock_jump", "clock", 1.5, causes.jump, 2.5)
