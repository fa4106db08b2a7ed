"""Decodes mutated files of every format. Each must give a picture or a reason code, within limits of time and memory.

    python -m tests.chaos.fuzz_images --files 20000 --seed 1

prints a report as JSON: counts by format and outcome, the slowest file, the peak of resident memory beside its limit,
and what went wrong. It needs no model. It exits with 1 if anything went wrong.

A file is decoded in the same way as in a worker: decode_bytes() says how much memory decode() may take, and a file that
needs too much is refused.
"""

import argparse
import io
import json
import random
import resource
import sys
import time
import traceback
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pillow_heif
from PIL import Image

from worker.errors import ImageError, Reason
from worker.image_memory import decode_bytes
from worker.images import Decoding, decode

SLOWEST_S = 5.0
PROMISED = 512 * 2**20
"""Bytes that a file may need here. It is less than in a worker, so that the peak shows it if decode() takes more."""
RESIDENT = 1024 * 2**20
"""Bytes that the process may have: PROMISED, Python and its libraries, and what the allocator keeps."""
_JUDGED = "judged"


@dataclass
class Report:
    """The result: how the files ended, the slowest one, the peak of memory, and what went wrong."""

    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    slowest_s: float = 0.0
    slowest: str = ""
    peak_bytes: int = 0
    faults: list[str] = field(default_factory=list)
    """Files that gave neither a picture nor an ImageError, or took too much time or memory."""

    def as_json(self) -> dict[str, Any]:
        """Returns the report as it is printed."""
        return {
            "files": sum(sum(counts.values()) for counts in self.outcomes.values()),
            "outcomes": {form: dict(counts.most_common()) for form, counts in sorted(self.outcomes.items())},
            "slowest_s": round(self.slowest_s, 3),
            "slowest": self.slowest,
            "peak_mib": self.peak_bytes >> 20,
            "peak_bound_mib": RESIDENT >> 20,
            "faults": self.faults[:20],
        }


def fuzz(files: int, seed: int) -> Report:
    """Decodes `files` mutated files, and reports. The same seed makes the same files."""
    rng = random.Random(seed)
    seeds = list(originals())
    report = Report()
    for number in range(files):
        form, data = seeds[number % len(seeds)]
        mutated = mutate(data, rng) if number >= len(seeds) else data
        _try_one(report, form, f"{form} {number}", mutated)
    report.peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if report.peak_bytes > RESIDENT:
        report.faults.append(f"{report.peak_bytes >> 20} MiB resident")
    return report


def _try_one(report: Report, form: str, name: str, data: bytes) -> None:
    began = time.perf_counter()
    try:
        outcome = _outcome(data)
    except Exception:
        outcome = "raised"
        report.faults.append(f"{name}: {traceback.format_exc(limit=-3)}")
    took = time.perf_counter() - began
    if took > report.slowest_s:
        report.slowest_s, report.slowest = took, f"{name}, {len(data)} bytes, {outcome}"
    if took > SLOWEST_S:
        report.faults.append(f"{name}: {took:.1f} s")
    report.outcomes.setdefault(form, Counter())[outcome] += 1


def _outcome(data: bytes) -> str:
    try:
        if decode_bytes(data, decoding=Decoding.FULL) > PROMISED:
            return Reason.TOO_MANY_PIXELS
        square = decode(data)
    except ImageError as error:
        return error.reason
    assert (square.size, square.mode) == ((336, 336), "RGB")
    return _JUDGED


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Returns the file with some bytes changed, added, removed or repeated, mostly near its beginning (the header)."""
    mutated = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        _CHANGES[rng.randrange(len(_CHANGES))](mutated, rng)
    return bytes(mutated) or b"\x00"


def _place(mutated: bytearray, rng: random.Random) -> int:
    end = len(mutated) if rng.random() < 0.4 else min(len(mutated), rng.choice((32, 128, 1024)))
    return rng.randrange(max(1, end))


def _flip(mutated: bytearray, rng: random.Random) -> None:
    at = _place(mutated, rng)
    mutated[at : at + 1] = bytes([rng.randrange(256)])


def _extreme(mutated: bytearray, rng: random.Random) -> None:
    at, width = _place(mutated, rng), rng.choice((1, 2, 4, 8))
    mutated[at : at + width] = rng.choice((b"\x00", b"\xff", b"\x7f", b"\x80", b"\x01")) * width


def _cut_out(mutated: bytearray, rng: random.Random) -> None:
    at = _place(mutated, rng)
    del mutated[at : at + rng.choice((1, 4, 64, 1024))]


def _double(mutated: bytearray, rng: random.Random) -> None:
    at, length = _place(mutated, rng), rng.choice((1, 4, 64, 1024))
    mutated[at:at] = mutated[at : at + length] * rng.choice((1, 2, 50))


def _cut_off(mutated: bytearray, rng: random.Random) -> None:
    del mutated[_place(mutated, rng) :]


def _add(mutated: bytearray, rng: random.Random) -> None:
    at = _place(mutated, rng)
    mutated[at:at] = rng.randbytes(rng.choice((1, 3, 40)))


_CHANGES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _flip, _flip, _flip, _extreme, _extreme, _cut_out, _double, _cut_off, _add,
)  # fmt: skip


def originals() -> Iterator[tuple[str, bytes]]:
    """Yields the formats and the bytes of small intact files."""
    image = picture(96, 72)
    second = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "a camera"
    for form, mode, options in _SAVED:
        given: dict[str, Any] = dict(options)
        if given.pop("exif", False):
            given["exif"] = exif
        if given.pop("frames", False):
            given |= {"save_all": True, "append_images": [second.convert(mode)]}
        target = io.BytesIO()
        image.convert(mode).save(target, form, **given)
        yield ("JPEG" if form == "MPO" else form), target.getvalue()
    for mode in ("RGB", "RGBA", "L"):
        target = io.BytesIO()
        pillow_heif.from_pillow(image.convert(mode)).save(target, exif=exif.tobytes())
        yield "HEIF", target.getvalue()
    for kind in (np.uint16, np.int32, np.float32):
        target = io.BytesIO()
        Image.fromarray(np.arange(96 * 72).reshape(72, 96).astype(kind)).save(target, "TIFF", compression="tiff_lzw")
        yield "TIFF", target.getvalue()


_SAVED: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("JPEG", "RGB", {"exif": True, "comment": b"a comment"}),
    ("JPEG", "RGB", {"progressive": True}),
    ("JPEG", "CMYK", {}),
    ("MPO", "RGB", {"frames": True}),
    ("PNG", "RGB", {"exif": True, "icc_profile": zlib.compress(bytes(3000))}),
    ("PNG", "P", {}),
    ("PNG", "RGBA", {"frames": True}),
    ("WEBP", "RGB", {"exif": True}),
    ("WEBP", "RGBA", {}),
    ("WEBP", "RGBA", {"lossless": True}),
    ("WEBP", "RGB", {"frames": True}),
    ("GIF", "P", {"comment": b"a comment"}),
    ("GIF", "P", {"frames": True}),
    ("BMP", "RGB", {}),
    ("BMP", "P", {}),
    ("TIFF", "RGB", {"exif": True}),
    ("TIFF", "RGB", {"compression": "tiff_deflate"}),
    ("TIFF", "CMYK", {"compression": "tiff_lzw"}),
    ("TIFF", "RGB", {"compression": "jpeg"}),
    ("TIFF", "1", {"compression": "group4"}),
    ("AVIF", "RGB", {"exif": True, "speed": 10}),
    ("AVIF", "RGBA", {"speed": 10, "frames": True}),
)
"""Pillow's format and mode of each file, and the options with which it is saved."""


def picture(width: int, height: int) -> Image.Image:
    """Returns an image of soft clouds of colour, which is the same each time."""
    levels = np.random.default_rng(1).integers(0, 256, (height // 8, width // 8, 4), dtype=np.uint8)
    return Image.fromarray(levels, "RGBA").resize((width, height), Image.Resampling.BICUBIC)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Decodes mutated image files of every format.")
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # Pillow's warnings about broken files
    report = fuzz(options.files, options.seed)
    print(json.dumps(report.as_json(), indent=2))
    sys.exit(bool(report.faults))


if __name__ == "__main__":
    main()
