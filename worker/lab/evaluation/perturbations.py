"""Changes images as everyday use changes them: the paper's robustness table (FakeVLM, Table 7).

The paper gives names and strengths, but not the units of noise and blur, nor the colour of a rotated image's corners.
Here, the noise's standard deviation is in levels of 255, and the blur's radius (standard deviation) in pixels, both in
the image's full size. Corners are black. Sharpening is Pillow's enhancement by 2.
"""

import hashlib
import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

CLEAN = "clean"

Perturbation = Callable[[Image.Image, str], Image.Image]
"""Takes the RGB image in full size and its name, and returns the changed RGB image."""


def _jpeg(quality: int) -> Perturbation:
    def save_and_load(image: Image.Image, _name: str) -> Image.Image:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        return Image.open(file)  # not decoded yet, so that the caller may choose the size

    return save_and_load


def _resize(factor: float) -> Perturbation:
    def resize(image: Image.Image, _name: str) -> Image.Image:
        size = (max(1, round(side * factor)) for side in image.size)
        return image.resize(tuple(size), Image.Resampling.BICUBIC)  # type: ignore[arg-type]

    return resize


def _noise(deviation: float) -> Perturbation:
    def add(image: Image.Image, name: str) -> Image.Image:
        # Drawn from the image's name, so that an evaluation that continues after a kill sees the same noise.
        seed = int.from_bytes(hashlib.sha256(name.encode(errors="surrogateescape")).digest()[:8])
        noise = np.random.default_rng(seed).standard_normal((image.height, image.width, 3), dtype=np.float32)
        return Image.fromarray((np.asarray(image) + deviation * noise).round().clip(0, 255).astype(np.uint8))

    return add


def _contrast(factor: float) -> Perturbation:
    return lambda image, _name: ImageEnhance.Contrast(image).enhance(factor)


PERTURBATIONS: dict[str, Perturbation] = {
    CLEAN: lambda image, _name: image,
    "jpeg_70": _jpeg(70),
    "jpeg_80": _jpeg(80),
    "resize_0.5": _resize(0.5),
    "resize_0.75": _resize(0.75),
    "gaussian_noise_5": _noise(5),
    "gaussian_noise_10": _noise(10),
    "flip": lambda image, _name: ImageOps.mirror(image),
    "rotate_15": lambda image, _name: image.rotate(15, Image.Resampling.BICUBIC),
    "sharpen": lambda image, _name: ImageEnhance.Sharpness(image).enhance(2),
    "contrast_0.7": _contrast(0.7),
    "contrast_1.3": _contrast(1.3),
    "blur_3": lambda image, _name: image.filter(ImageFilter.GaussianBlur(3)),
}

PAPER = {
    CLEAN: (98.6, 98.1), "jpeg_70": (91.2, 88.7), "jpeg_80": (91.0, 88.5), "resize_0.5": (96.4, 94.9),
    "resize_0.75": (98.1, 97.4), "gaussian_noise_5": (94.5, 92.5), "gaussian_noise_10": (92.1, 89.8),
    "flip": (98.4, 98.3), "rotate_15": (90.9, 89.6), "sharpen": (97.4, 97.2), "contrast_0.7": (96.4, 96.1),
    "contrast_1.3": (98.2, 98.0), "blur_3": (89.5, 87.8),
}  # fmt: skip
"""Accuracy and F1 of FakeVLM on FakeClue, in per cent (arXiv 2503.14905v2, Table 7)."""
