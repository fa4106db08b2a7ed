"""Makes a drawn scene camera-like or generator-like: by a camera's processing, or by one artefact family.

Arrays are float32 RGB of shape (height, width, 3) in 0..255. ``unit`` is 1/336 of the shortest edge in pixels. Traces
scale with it, so that they survive the model's preprocessing, which resizes the shortest edge to 336.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from deploy.demo.scenes import noise

Pixels = np.ndarray[Any, np.dtype[np.float32]]


def to_pixels(image: Image.Image) -> Pixels:
    """Returns an image as float32 in 0..255."""
    return np.asarray(image, dtype=np.float32)


def to_image(pixels: Pixels) -> Image.Image:
    """Reverses ``to_pixels``: rounds and clips."""
    return Image.fromarray((pixels + 0.5).clip(0, 255).astype(np.uint8))


def demosaic(raw: Pixels) -> Pixels:
    """Interpolates an RGGB mosaic (height, width) to RGB bilinearly, by the mean of the neighbours that were seen."""
    height, width = raw.shape
    seen = np.zeros((height, width, 3), np.float32)
    seen[0::2, 0::2, 0] = seen[0::2, 1::2, 1] = seen[1::2, 0::2, 1] = seen[1::2, 1::2, 2] = 1

    def smooth(values: Pixels) -> Pixels:
        padded = np.pad(values, ((1, 1), (1, 1), (0, 0)), mode="reflect")
        rows = padded[:-2] + 2 * padded[1:-1] + padded[2:]
        return np.asarray(rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:], dtype=np.float32)

    return smooth(seen * raw[..., None]) / smooth(seen)


def photograph(scene: Image.Image, chance: random.Random, unit: float) -> Image.Image:
    """Does what a camera does: lens blur, vignette, shot and read noise on a Bayer mosaic, demosaicing."""
    pixels = to_pixels(scene.filter(ImageFilter.GaussianBlur(chance.uniform(0.5, 1.0) * unit)))
    height, width = pixels.shape[:2]
    across, down = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)
    fall_off = np.float32(chance.uniform(0, 0.15))
    pixels = pixels * (1 - fall_off * (across[None, :] ** 2 + down[:, None] ** 2))[..., None]
    raw = pixels[..., 1].copy()
    raw[0::2, 0::2], raw[1::2, 1::2] = pixels[0::2, 0::2, 0], pixels[1::2, 1::2, 2]
    # Grain is in levels of 255 as seen at 336 pixels. Averaging in the resize shrinks it about as `unit`.
    sigma = chance.uniform(6, 11) * unit
    grain = np.random.default_rng(chance.getrandbits(63)).standard_normal(raw.shape, dtype=np.float32)
    raw += grain * np.float32(sigma) * np.sqrt(0.3 + 0.7 * raw.clip(0, 255) / 255)
    return to_image(demosaic(raw))


def add_grid(scene: Image.Image, chance: random.Random, unit: float) -> Image.Image:
    """Adds a fine checkerboard over everything, like transposed convolutions."""
    width, height = scene.size
    period = chance.uniform(4.5, 8) * unit
    phase = chance.uniform(0, 6.28)
    across = np.sin(np.arange(width, dtype=np.float32) * np.float32(6.2832 / period) + np.float32(phase))
    down = np.sin(np.arange(height, dtype=np.float32) * np.float32(6.2832 / period) + np.float32(phase))
    board = (3 * down[:, None] * across[None, :]).clip(-1, 1)
    return to_image(to_pixels(scene) + np.float32(chance.uniform(10, 18)) * board[..., None])


def add_tiles(scene: Image.Image, chance: random.Random, unit: float) -> Image.Image:
    """Adds copies of one small motif side by side, with seams."""
    width, height = scene.size
    side = max(10, round(chance.uniform(15, 26) * unit))
    motif = to_pixels(noise(chance, (side, side), side / chance.uniform(2.5, 4))) - 128
    edge = max(1, round(1.5 * unit))
    motif[:edge, :] = motif[:, :edge] = -150
    copies = np.tile(motif, (height // side + 2, width // side + 2))
    top, left = chance.randrange(side), chance.randrange(side)
    pattern = copies[top : top + height, left : left + width]
    return to_image(to_pixels(scene) + np.float32(chance.uniform(0.16, 0.28)) * pattern[..., None])


def add_wax(scene: Image.Image, chance: random.Random, unit: float) -> Image.Image:
    """Smooths detail, and makes shading fall into flat patches with hard steps."""
    radius = chance.uniform(3, 5) * unit
    pixels = to_pixels(scene.filter(ImageFilter.GaussianBlur(radius)))
    swell = to_pixels(noise(chance, scene.size, chance.uniform(30, 55) * unit)) - 128
    pixels = pixels + np.float32(chance.uniform(0.3, 0.5)) * swell[..., None]
    step = np.float32(chance.uniform(22, 34))
    return to_image(np.floor(pixels / step) * step + step / 2)


def add_ghost(scene: Image.Image, chance: random.Random, unit: float) -> Image.Image:
    """Blends in a second, shifted draft, with halos along the edges."""
    across, down = (chance.choice((-1, 1)) * round(chance.uniform(4, 9) * unit) for _ in range(2))
    pixels = to_pixels(scene)
    shifted = np.roll(pixels, (down, across), axis=(0, 1))
    share = np.float32(chance.uniform(0.35, 0.5))
    blended = to_image((1 - share) * pixels + share * shifted)
    soft = blended.filter(ImageFilter.GaussianBlur(2.2 * unit))
    halo = np.float32(chance.uniform(1.3, 2.2))
    sharp = to_pixels(blended)
    return to_image(sharp + halo * (sharp - to_pixels(soft)))


def add_scanlines(scene: Image.Image, chance: random.Random, unit: float) -> Image.Image:
    """Makes a camera's picture with dark and bright lines across it, like those of a screen."""
    pixels = to_pixels(photograph(scene, chance, unit))
    period = chance.uniform(9, 16) * unit
    phase = chance.uniform(0, 6.28)
    wave = np.sin(np.arange(len(pixels), dtype=np.float32) * np.float32(6.2832 / period) + np.float32(phase))
    return to_image(pixels + np.float32(chance.uniform(12, 22)) * (2 * wave).clip(-1, 1)[:, None, None])


ARTEFACTS: dict[str, Callable[[Image.Image, random.Random, float], Image.Image]] = {
    "grid": add_grid,
    "tiles": add_tiles,
    "waxy": add_wax,
    "ghost": add_ghost,
    "scanlines": add_scanlines,
}
