"""Makes photo-like pictures of a chosen size, as files: smooth shapes with a camera's noise, drawn from a seed."""

import io
from typing import Any

import numpy as np
from PIL import Image

SIZES = {"0.3": (640, 480), "0.8": (1024, 768), "3": (2048, 1536), "12": (4032, 3024)}
"""Width and height in pixels, by megapixels."""


def picture(size: tuple[int, int], seed: int) -> Image.Image:
    """Returns an RGB picture: a coarse random field, enlarged, with noise. Its JPEG is about as large as a photo's."""
    chance = np.random.default_rng(seed)
    coarse = chance.integers(0, 255, (12, 16, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC), dtype=np.int16)
    noise = chance.normal(0, 6, smooth.shape).astype(np.int16)
    return Image.fromarray(np.clip(smooth + noise, 0, 255).astype(np.uint8))


def files(megapixels: str, form: str, count: int, *, seed: int = 0, pictures: int = 4) -> dict[str, bytes]:
    """Returns `count` files by key, each with another content. `form` is "jpeg" or "png".

    Only a few pictures are drawn. Bytes after a picture's end, which decoders ignore, make each file another content.
    """
    options: dict[str, Any] = {"jpeg": {"quality": 85}, "png": {"compress_level": 6}}[form]
    drawn = []
    for number in range(min(pictures, count)):
        file = io.BytesIO()
        picture(SIZES[megapixels], number).save(file, form, **options)
        drawn.append(file.getvalue())
    return {
        f"{megapixels}/{seed}/{number:06d}.{form}": drawn[number % len(drawn)] + f"{seed}/{number}".encode()
        for number in range(count)
    }
