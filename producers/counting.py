"""Counts what producers do, and reports it to `nightly`, which starts processes that list."""

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
    """What a producer has done since its last report: images, and messages that became dead letters.

    `known` images needed no message: they are unchanged and have a verdict.
    """

    listed: int = 0
    published: int = 0
    known: int = 0
    dead_lettered: int = 0


Count = Callable[[Counts], None]
"""A function that receives these counts."""


def count_nothing(_counts: Counts) -> None:
    """For processes that serve no metrics."""


def tell_parent(counts: Counts) -> None:
    """Writes one line of JSON to stdout, which `nightly` reads. If `nightly` has ended, the counts are dropped."""
    with suppress(OSError):
        os.write(_STDOUT, json.dumps(asdict(counts)).encode() + b"\n")


def hear(lines: Iterable[bytes], count: Count) -> None:
    """Reads and counts what a process writes with `tell_parent`, until the process ends."""
    for line in lines:
        try:
            counts = Counts(**json.loads(line))
        except (ValueError, TypeError):
            log.warning("counts_not_understood", line=line[:200].decode(errors="replace"))
        else:
            count(counts)
