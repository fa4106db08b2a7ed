"""Compares large JPEGs decoded at reduced size with the full size: how much faster is it, and do verdicts change?

    make bench ARGS="--only large_jpeg"

`large_jpeg.12` and `large_jpeg.3` are images per second of one core's time, from bytes to the square. The images are
photo-like JPEGs of 12 and 3 megapixels: enlarged drawings with the noise of a sensor.

`large_jpeg.agreement` is the share of 1,000 drawings, half of them camera-like, that get the same verdict from both
decodings by the demo detector on vLLM. Drawing at several megapixels would take minutes, so each is drawn in its own
size (336 to 800 pixels) and enlarged to at least 3 megapixels, and to at least 1,344 pixels on the shorter edge, from
which on a JPEG is reduced. Only the verdict is asked for, without an explanation.
"""

import io
import math
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from functools import partial

import numpy as np
from PIL import Image

from benchmarks import DEMO_DETECTOR
from benchmarks.comparison import Comparison, Wanted, in_turns
from deploy.demo.answers import FAMILIES, REAL
from deploy.demo.draw import draw
from worker.detector.detector import Detector, warm_up
from worker.detector.loading import load_description
from worker.detector.start import start_detector
from worker.detector.verdicts import Judgement, verdict_of
from worker.images import EDGE, Decoding, decode, open_for
from worker.messages import Explain, Policy
from worker.settings import Settings
from worker.tables import Verdict

ROUNDS = 5
PHOTOS = 4
SIZES = {"12": (4000, 3000), "3": (2048, 1536)}
TARGETS = {"12": 3.0, "3": None}
DRAWINGS = 1000
SEED = 5
"""The seed of the drawings. The demo detector learned from seed 1, and was measured on 2 and 3."""
MEGAPIXELS = 3
POLICY = Policy(explain=Explain.NONE, max_tokens=8)
AT_ONCE = 64


def compare(wanted: Wanted) -> Iterator[Comparison]:
    """Compares the speed at two sizes, and computes the agreement of verdicts."""
    for name, size in SIZES.items():
        if wanted(f"large_jpeg.{name}"):
            files = [photo(number, size) for number in range(PHOTOS)]
            reduced, full = in_turns(rate(files, Decoding.REDUCED), rate(files, Decoding.FULL), ROUNDS)
            yield Comparison(
                f"large_jpeg.{name}", "images/s of a core", reduced, full, TARGETS[name], higher_is_better=True
            )
    if wanted("large_jpeg.agreement"):
        share = agreement()
        yield Comparison("large_jpeg.agreement", "share", (share,), (1.0,), 0.995, higher_is_better=True)


def photo(number: int, size: tuple[int, int]) -> bytes:
    """Returns a camera-like drawing as a JPEG of this size. Without the added noise, decoding would be too easy."""
    large = np.asarray(draw(SEED * 1_000_000 + number, REAL).resize(size, Image.Resampling.BICUBIC), np.float32)
    noise = np.random.default_rng(number).normal(0, 4, large.shape).astype(np.float32)
    return _jpeg(Image.fromarray((large + noise).round().clip(0, 255).astype(np.uint8)), quality=90)


def rate(files: Sequence[bytes], decoding: Decoding) -> Callable[[], float]:
    """Returns a function that measures images per second of this process's CPU time."""

    def measure() -> float:
        began = time.process_time()
        for data in files:
            decode(data, decoding=decoding)
        return len(files) / (time.process_time() - began)

    return measure


def agreement() -> float:
    """Returns the share of drawings with the same verdict under both decodings."""
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        pairs = list(pool.map(_both_squares, range(DRAWINGS), chunksize=8))
    # A share for a small machine: the detector needs little, and other processes may hold the rest.
    settings = Settings(detector=str(DEMO_DETECTOR), gpu_memory_utilization=0.2)
    detector = start_detector(load_description(settings), settings)
    with closing(detector):
        warm_up(detector)
        ask = partial(_verdicts, detector, detector.description.thresholds.model_dump())
        full, reduced = (ask([_square(pair[side]) for pair in pairs]) for side in (0, 1))
    same = sum(one == other for one, other in zip(full, reduced, strict=True))
    print(f"{same} of {len(pairs)} verdicts agree; full {_counted(full)}, reduced {_counted(reduced)}", flush=True)
    return same / len(pairs)


def _both_squares(index: int) -> tuple[bytes, bytes]:
    """Returns the pixels of drawing `index` as the detector sees them: decoded in full, and reduced."""
    seed = SEED * 1_000_000 + index
    small = draw(seed, REAL if index % 2 else FAMILIES[index // 2 % len(FAMILIES)])
    needed = Decoding.REDUCED.least(EDGE) or 0
    factor = max(math.sqrt(MEGAPIXELS * 1e6 / (small.width * small.height)), 2 * needed / min(small.size))
    size = (math.ceil(small.width * factor), math.ceil(small.height * factor))
    data = _jpeg(small.resize(size, Image.Resampling.BICUBIC), quality=random.Random(~seed).randint(80, 95))
    if open_for(data, decoding=Decoding.REDUCED).pixels.size == size:
        raise SystemExit(f"drawing {index} of {size} was not reduced: nothing would be compared")
    return decode(data).tobytes(), decode(data, decoding=Decoding.REDUCED).tobytes()


def _square(pixels: bytes) -> Image.Image:
    return Image.frombytes("RGB", (EDGE, EDGE), pixels)


def _verdicts(detector: Detector, thresholds: dict[str, float], squares: Sequence[Image.Image]) -> list[Verdict]:
    verdicts = []
    for start in range(0, len(squares), AT_ONCE):
        for judgement in detector.judge(squares[start : start + AT_ONCE], POLICY):
            if not isinstance(judgement, Judgement):
                raise judgement
            verdicts.append(verdict_of(judgement.score, **thresholds))
    return verdicts


def _counted(verdicts: Sequence[Verdict]) -> dict[str, int]:
    return {str(verdict): verdicts.count(verdict) for verdict in Verdict}


def _jpeg(image: Image.Image, quality: int) -> bytes:
    target = io.BytesIO()
    image.save(target, "JPEG", quality=quality)
    return target.getvalue()
