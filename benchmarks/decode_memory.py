"""How much memory does decoding take at its peak, by format and mode, compared with what decode_bytes() promises?

    python -m benchmarks.decode_memory [--megapixels 25] [--only JPEG]

One process makes each file, and another one decodes it. The peak is VmHWM in /proc/self/status, which is reset first,
minus what the process held before. `of_bound` is the peak divided by the promise; it must not be above 1. Linux only.
"""

import argparse
import io
import json
import multiprocessing
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pillow_heif
from PIL import Image, TiffImagePlugin

from benchmarks.scratch import write_result
from worker.image_memory import decode_bytes
from worker.images import Decoding, SizeLimits, decode, opened_header

MAX_PIXELS = 200_000_000
_Result = TypeVar("_Result")

_LOSSLESS = {"lossless": True, "method": 0, "quality": 0}
_FAST = {"compress_level": 1}
FILES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "JPEG": ("JPEG", "RGB", {}),
    "JPEG, turned": ("JPEG", "RGB", {"orientation": 6}),
    "JPEG, progressive": ("JPEG", "RGB", {"progressive": True}),
    "JPEG, progressive, 4:4:4": ("JPEG", "RGB", {"progressive": True, "subsampling": 0}),
    "JPEG, progressive, turned": ("JPEG", "RGB", {"progressive": True, "orientation": 6}),
    "JPEG, grey": ("JPEG", "L", {}),
    "JPEG, grey, progressive": ("JPEG", "L", {"progressive": True}),
    "JPEG, CMYK": ("JPEG", "CMYK", {}),
    "JPEG, CMYK, turned": ("JPEG", "CMYK", {"orientation": 6}),
    "JPEG, CMYK, progressive": ("JPEG", "CMYK", {"progressive": True}),
    "JPEG, two pictures": ("MPO", "RGB", {}),
    "PNG": ("PNG", "RGB", _FAST),
    "PNG, turned": ("PNG", "RGB", _FAST | {"orientation": 6}),
    "PNG, RGBA": ("PNG", "RGBA", _FAST),
    "PNG, RGBA, turned": ("PNG", "RGBA", _FAST | {"orientation": 6}),
    "PNG, grey": ("PNG", "L", _FAST),
    "PNG, grey and alpha": ("PNG", "LA", _FAST),
    "PNG, palette": ("PNG", "P", _FAST),
    "PNG, palette with alpha": ("PNG", "P", _FAST | {"transparency": bytes(range(256))}),
    "PNG, one bit": ("PNG", "1", _FAST),
    "PNG, 16 bits": ("PNG", "I;16", _FAST),
    "PNG, 16 bits, turned": ("PNG", "I;16", _FAST | {"orientation": 6}),
    "PNG, animated": ("PNG", "RGB", _FAST | {"frames": 2}),
    "WebP": ("WEBP", "RGB", {"method": 0}),
    "WebP, turned": ("WEBP", "RGB", {"method": 0, "orientation": 6}),
    "WebP, RGBA": ("WEBP", "RGBA", {"method": 0}),
    "WebP, lossless": ("WEBP", "RGB", _LOSSLESS),
    "WebP, lossless, RGBA": ("WEBP", "RGBA", _LOSSLESS),
    "WebP, lossless, RGBA, turned": ("WEBP", "RGBA", _LOSSLESS | {"orientation": 6}),
    "WebP, animated": ("WEBP", "RGB", {"method": 0, "frames": 2}),
    "GIF": ("GIF", "P", {}),
    "GIF, grey": ("GIF", "L", {}),
    "GIF, animated": ("GIF", "P", {"frames": 2}),
    "BMP": ("BMP", "RGB", {}),
    "BMP, palette": ("BMP", "P", {}),
    "BMP, one bit": ("BMP", "1", {}),
    "TIFF": ("TIFF", "RGB", {}),
    "TIFF, LZW": ("TIFF", "RGB", {"compression": "tiff_lzw"}),
    "TIFF, deflate": ("TIFF", "RGB", {"compression": "tiff_deflate"}),
    "TIFF, deflate, one strip": ("TIFF", "RGB", {"compression": "tiff_deflate", "strip_size": 2**31 - 1}),
    "TIFF, deflate, turned": ("TIFF", "RGB", {"compression": "tiff_deflate", "orientation": 6}),
    "TIFF, JPEG": ("TIFF", "RGB", {"compression": "jpeg"}),
    "TIFF, packbits": ("TIFF", "RGB", {"compression": "packbits"}),
    "TIFF, CMYK, LZW": ("TIFF", "CMYK", {"compression": "tiff_lzw"}),
    "TIFF, floats": ("TIFF", "F", {}),
    "TIFF, floats, LZW": ("TIFF", "F", {"compression": "tiff_lzw"}),
    "TIFF, 32-bit integers": ("TIFF", "I", {}),
    "TIFF, 16 bits": ("TIFF", "I;16", {}),
    "TIFF, LAB": ("TIFF", "LAB", {}),
    "AVIF": ("AVIF", "RGB", {"speed": 10}),
    "AVIF, 4:4:4": ("AVIF", "RGB", {"speed": 10, "subsampling": "4:4:4"}),
    "AVIF, turned": ("AVIF", "RGB", {"speed": 10, "orientation": 6}),
    "AVIF, RGBA": ("AVIF", "RGBA", {"speed": 10}),
    "AVIF, grey": ("AVIF", "L", {"speed": 10}),
    "HEIC": ("HEIF", "RGB", {}),
    "HEIC, 4:4:4": ("HEIF", "RGB", {"chroma": 444}),
    "HEIC, turned": ("HEIF", "RGB", {"orientation": 6}),
    "HEIC, RGBA": ("HEIF", "RGBA", {}),
    "HEIC, grey": ("HEIF", "L", {}),
    "HEIC, 10 bits": ("HEIF", "RGB;16", {}),
    "HEIC, 10 bits, 4:4:4": ("HEIF", "RGB;16", {"chroma": 444}),
    "HEIC, RGBA, 4:4:4": ("HEIF", "RGBA", {"chroma": 444}),
    "HEIC, tiles": ("HEIF", "RGB", {"tile_size": 512}),
    "AVIF, animated": ("AVIF", "RGB", {"speed": 10, "frames": 2}),
}
"""By name: Pillow's format and mode, and how the file is saved. `orientation` is EXIF's. Several `frames` animate."""


def encoded(name: str, pixels: int) -> bytes:
    """Returns the file of this name with about this many pixels, 4:3."""
    form, mode, given = FILES[name]
    options = dict(given)
    height = int((pixels * 3 / 4) ** 0.5)
    image = picture(height * 4 // 3, height, mode.removesuffix(";16") if form == "HEIF" else mode)
    if orientation := options.pop("orientation", None):
        options["exif"] = exif = Image.Exif()
        exif[0x0112] = orientation
    frames = options.pop("frames", 1)
    if frames > 1:
        options |= {"save_all": True, "append_images": [image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]}
    TiffImagePlugin.STRIP_SIZE = options.pop("strip_size", TiffImagePlugin.STRIP_SIZE)
    target = io.BytesIO()
    if form == "HEIF":
        _as_heif(image, mode).save(target, enc_params={"preset": "ultrafast"}, **options)
    else:
        image.save(target, form, **options)
    return target.getvalue()


def _as_heif(image: Image.Image, mode: str) -> pillow_heif.HeifFile:
    if mode != "RGB;16":
        return pillow_heif.from_pillow(image)
    levels = np.asarray(image).astype(np.uint16) * np.uint16(257)
    return pillow_heif.from_bytes(mode, image.size, levels.tobytes())


def picture(width: int, height: int, mode: str) -> Image.Image:
    """Returns soft clouds of colour, or a ramp for modes with deep levels."""
    if mode in {"I", "F", "I;16"}:
        kind = {"I": np.int32, "F": np.float32, "I;16": np.uint16}[mode]
        return Image.fromarray(np.add.outer(np.arange(height) % 256, np.arange(width) % 256).astype(kind) * kind(90))
    levels = np.random.default_rng(1).integers(0, 256, (height // 16 + 1, width // 16 + 1, 4), dtype=np.uint8)
    small = Image.fromarray(levels, "CMYK" if mode == "CMYK" else "RGBA")
    return small.resize((width, height), Image.Resampling.BILINEAR).convert("LAB" if mode == "LAB" else mode)


def measure(path: Path, decoding: Decoding) -> dict[str, int]:
    """Returns peak and promise in bytes for the file. The process must not have decoded anything large before."""
    data = path.read_bytes()
    with opened_header(data, limits=SizeLimits(max_pixels=MAX_PIXELS)) as header:
        pixels = header.image.width * header.image.height
    bound = decode_bytes(data, decoding=decoding, limits=SizeLimits(max_pixels=MAX_PIXELS))
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets VmHWM
    before = _held("VmRSS")
    decode(data, decoding=decoding, limits=SizeLimits(max_pixels=MAX_PIXELS))
    return {"pixels": pixels, "file": len(data), "peak": _held("VmHWM") - before, "bound": bound}


def _held(field: str) -> int:
    """Returns a field of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def lines(pixels: int, only: str = "") -> Iterator[tuple[str, dict[str, int]]]:
    """Yields name and figures of each file with about this many pixels. This process is forked, so it must be small."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        for name in (name for name in FILES if name.startswith(only)):
            _apart(partial(_write, path, name, pixels))
            for decoding in Decoding if FILES[name][0] in {"JPEG", "MPO"} else (Decoding.FULL,):
                yield f"{name} ({decoding})", _apart(partial(measure, path, decoding))


def _write(path: Path, name: str, pixels: int) -> None:
    path.write_bytes(encoded(name, pixels))


def _apart(work: Callable[[], _Result]) -> _Result:
    """Runs `work` in a process of its own, and returns its result."""
    fork = multiprocessing.get_context("fork")
    here, there = fork.Pipe(duplex=False)
    process = fork.Process(target=lambda: there.send(work()))
    process.start()
    there.close()
    try:
        found: _Result = here.recv()
    except EOFError:
        raise SystemExit("a measuring process died: see above") from None
    process.join()
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Peak memory of decoding, by format.")
    parser.add_argument("--megapixels", type=float, default=25)
    parser.add_argument("--only", default="", help="only files whose names begin with this")
    parser.add_argument("--output", type=Path, help="write the bare figures to this file instead of the kept results")
    options = parser.parse_args()
    table = {}
    for name, found in lines(int(options.megapixels * 1e6), options.only):
        table[name] = found | {
            "bytes_a_pixel": round(found["peak"] / found["pixels"], 2),
            "of_bound": round(found["peak"] / found["bound"], 3),
        }
        print(f"{name:40} {table[name]}", file=sys.stderr, flush=True)
    if options.output:
        options.output.write_text(json.dumps(table), encoding="utf-8")
    else:
        write_result("decode_memory", {"megapixels": options.megapixels, "files": table})


if __name__ == "__main__":
    main()
