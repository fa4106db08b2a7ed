"""Drawings that the demo detector can judge, as files in S3. 5 % of them are fakes."""

import random
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

from benchmarks.rig import Rig
from deploy.demo.answers import FAMILIES, REAL
from deploy.demo.draw import draw, encode
from worker.messages import ImageRef

FLAGGED_SHARE = 0.05
SEED = 7_000_000


def drawings(count: int) -> list[bytes]:
    """Returns the files of `count` drawings in random order. They are the same every time."""
    fakes = round(count * FLAGGED_SHARE)
    families = [FAMILIES[number % len(FAMILIES)] for number in range(fakes)] + [REAL] * (count - fakes)
    random.Random(SEED).shuffle(families)
    with ProcessPoolExecutor() as processes:
        return list(processes.map(_file, range(count), families, chunksize=4))


def _file(number: int, family: str) -> bytes:
    return encode(draw(SEED + number, family), SEED + number)[0]


def stored(services: Rig, name: str, files: list[bytes], times: int) -> Iterator[list[ImageRef]]:
    """Stores the files in S3 `times` times, each time as other contents: bytes after the picture's end differ."""
    for turn in range(times):
        mark = f"{name}/{turn}"
        yield services.store({f"{mark}/{number:06d}": file + mark.encode() for number, file in enumerate(files)})
