"""How much memory does a worker take for images of 0.3 to 100 megapixels, compared with what its setting allows?

The worker is a process of its own on real services, with an engine without costs, and with as many threads as on a
large machine. The figure is the peak of its resident memory during a scan, minus what it had after it was ready and had
judged a first image.
"""

import io
import random
from collections.abc import Iterator
from pathlib import Path

import psutil
from PIL import Image

from benchmarks.comparison import Comparison, Wanted
from benchmarks.pictures import files, picture
from benchmarks.rig import rig

ROUNDS = 2
MEMORY_MIB = 4096
SETTINGS = {"FAKESWEEP_THREADS": "32", "FAKESWEEP_IMAGE_MEMORY_MIB": str(MEMORY_MIB)}
COUNTS = {"0.3": 160, "0.8": 80, "3": 40, "12": 24}
LARGE = (("jpeg", (10_000, 10_000)), ("png", (7_000, 7_000)), ("webp", (9_000, 9_000)), ("tiff", (4_000, 4_000)))
"""Format, and size in pixels. A WebP of 81 megapixels takes more memory than a JPEG of 100."""
LARGE_COPIES = 4


def compare(wanted: Wanted) -> Iterator[Comparison]:
    """Compares the peak memory of the worker's images, in MiB, with FAKESWEEP_IMAGE_MEMORY_MIB."""
    if not wanted("memory.peak"):
        return
    large = {form: _file(form, size) for form, size in LARGE}
    peaks = []
    with rig() as services, services.worker(["benchmarks.costless_worker"], SETTINGS) as worker:
        services.sweep(services.store(files("0.3", "jpeg", 16, seed=99)))
        idle = worker.memory_info().rss
        for number in range(ROUNDS):
            objects = {key: file for size, count in COUNTS.items() for key, file in _mixed(size, count, number)}
            objects |= {
                f"large/{number}/{copy}.{form}": file + f"{number}/{copy}".encode()
                for form, file in large.items()
                for copy in range(LARGE_COPIES)
            }
            refs = services.store(objects)
            random.Random(number).shuffle(refs)
            _reset_peak(worker)
            services.sweep(refs)
            peaks.append((_peak(worker) - idle) / 2**20)
    allowed = (float(MEMORY_MIB),) * ROUNDS
    yield Comparison("memory.peak", "MiB", tuple(peaks), allowed, 1.0, higher_is_better=False)


def _mixed(megapixels: str, count: int, number: int) -> list[tuple[str, bytes]]:
    return list(files(megapixels, "jpeg", count, seed=number).items())


def _file(form: str, size: tuple[int, int]) -> bytes:
    target = io.BytesIO()
    small = picture((size[0] // 8, size[1] // 8), 7)
    options = {"method": 0} if form == "webp" else {"compress_level": 1} if form == "png" else {}
    small.resize(size, Image.Resampling.BILINEAR).save(target, form, **options)
    return target.getvalue()


def _reset_peak(process: psutil.Process) -> None:
    Path(f"/proc/{process.pid}/clear_refs").write_text("5", encoding="ascii")


def _peak(process: psutil.Process) -> int:
    """Returns VmHWM in bytes: the most that was resident since the peak was reset (proc(5))."""
    lines = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
