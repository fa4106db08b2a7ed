"""What producers count, and how a process that lists for `nightly` tells it."""

import json
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass

import structlog

log = structlog.get_logger(__name__)

_STDOUT = 1


@dataclass(frozen=True)
class Counts:
    """What a producer has done since it said so last: images, and messages that became dead letters.

    `known` images needed no message: they are unchanged, and have a verdict.
    """

    listed: int = 0
    published: int = 0
    known: int = 0
    dead_lettered: int = 0


Count = Callable[[Counts], None]
"""Is told what was done."""


def count_nothing(_counts: Counts) -> None:
    """For processes that serve no metrics."""


def tell_parent(counts: Counts) -> None:
    """Writes one line of JSON to stdout, which `nightly` reads. When that one is gone, nobody is told."""
    with suppress(OSError):
        os.write(_STDOUT, json.dumps(asdict(counts)).encode() + b"\n")


def hear(lines: Iterable[bytes], count: Count) -> None:
    """Counts what a process tells with `tell_parent`, until it ends."""
    for line in lines:
        try:
            counts = Counts(**json.loads(line))
        except (ValueError, TypeError):
            log.warning("counts_not_understood", line=line[:200].decode(errors="replace"))
        else:
            count(counts)
