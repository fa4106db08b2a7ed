"""Draws the contents of the images, the same for both classes: what is in front of the camera or in the prompt.

A scene has one of four of FakeClue's categories: objects on a ground, a landscape, fields from above, a page of a
document. Lengths are in units of 1/336 of the shortest edge, so a scene looks alike at any size.
"""

from __future__ import annotations

import math
import random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageOps

Colour = tuple[int, int, int]
Point = tuple[float, float]
CATEGORIES = ("object", "scene", "satellite", "doc")


def noise(chance: random.Random, size: tuple[int, int], cell: float) -> Image.Image:
    """Returns smooth noise (mode L) whose blobs are about ``cell`` pixels wide."""
    grid = tuple(max(2, round(side / cell) + 1) for side in reversed(size))
    values = np.random.default_rng(chance.getrandbits(63)).integers(0, 256, grid, dtype=np.uint8)
    return Image.fromarray(values).resize(size, Image.Resampling.BICUBIC)


def texture(chance: random.Random, size: tuple[int, int], unit: float) -> Image.Image:
    """Returns noise of several scales (mode L), from coarse blobs down to a random finest scale."""
    cell = chance.uniform(40, 120) * unit
    finest = chance.uniform(3, 12) * unit
    layers = noise(chance, size, cell)
    while cell > finest:
        cell /= 2.5
        layers = Image.blend(layers, noise(chance, size, cell), chance.uniform(0.25, 0.45))
    return layers


def colour(chance: random.Random, low: int = 20, high: int = 235) -> Colour:
    """Returns a muted random colour: a grey level with a tint."""
    grey, tint = chance.randint(low, high), chance.randint(10, 60)
    red, green, blue = (min(245, max(10, grey + chance.randint(-tint, tint))) for _ in range(3))
    return red, green, blue


def near(chance: random.Random, base: Colour, distance: int) -> Colour:
    """Returns a colour that differs from ``base`` by about ``distance`` in brightness."""
    step = chance.choice((-1, 1)) * distance
    red, green, blue = (min(250, max(5, channel + step + chance.randint(-12, 12))) for channel in base)
    return red, green, blue


def surface(chance: random.Random, size: tuple[int, int], unit: float) -> Image.Image:
    """Returns a filled area (mode RGB): a textured material or a colour gradient."""
    base = colour(chance)
    if chance.random() < 0.35:
        angle = chance.choice((0, 90, 180, 270))
        ramp = Image.linear_gradient("L").rotate(angle).resize(size)
    else:
        ramp = texture(chance, size, unit)
    return ImageOps.colorize(ramp, base, near(chance, base, chance.randint(15, 60)))


def place(canvas: Image.Image, fill: Image.Image, mask: Image.Image, shadow: tuple[int, int, float] | None) -> None:
    """Puts ``fill`` on the canvas where ``mask`` is white. The mask has twice the size, so that edges are smooth."""
    half = mask.reduce(2).crop((0, 0, *canvas.size))
    if shadow:
        across, down, softness = shadow
        shade = Image.new("L", canvas.size)
        shade.paste(half, (across, down))
        box = around(shade, math.ceil(4 * softness))  # farther than the blur reaches
        shade = shade.crop(box).filter(ImageFilter.GaussianBlur(softness)).point(lambda value: value * 0.45)
        canvas.paste((8, 8, 14), box, shade)
    box = around(half, 0)
    canvas.paste(fill.crop(box), box, half.crop(box))


def around(image: Image.Image, margin: int) -> tuple[int, int, int, int]:
    """Returns the box of what is not black, with a margin in pixels, but not beyond the image."""
    left, top, right, bottom = image.getbbox() or (0, 0, 0, 0)
    return (
        max(0, left - margin),
        max(0, top - margin),
        min(image.width, right + margin),
        min(image.height, bottom + margin),
    )


def outline(chance: random.Random, width: int, height: int) -> list[Point]:
    """Returns a random polygon in a frame of this size: a box, a triangle or an irregular shape."""
    middle_x, middle_y = chance.uniform(0, width), chance.uniform(0, height)
    radius = chance.uniform(0.06, 0.28) * min(width, height)
    corners = chance.choice((3, 4, 4, 5, 7, 10))
    turn = chance.uniform(0, 6.28)
    ray = [radius * chance.uniform(0.6, 1.2) for _ in range(corners)]
    angles = [turn + 6.2832 * corner / corners for corner in range(corners)]
    return [
        (middle_x + r * float(np.cos(a)), middle_y + r * float(np.sin(a))) for r, a in zip(ray, angles, strict=True)
    ]


def draw_objects(canvas: Image.Image, chance: random.Random, unit: float, count: int) -> None:
    """Draws solid things with shadows, lit from one side, and thin sticks among them."""
    width, height = canvas.size
    light = (round(chance.uniform(-8, 8) * unit), round(chance.uniform(2, 9) * unit), chance.uniform(2, 6) * unit)
    for _ in range(count):
        mask = Image.new("L", (width * 2 + 2, height * 2 + 2))
        pen = ImageDraw.Draw(mask)
        kind = chance.random()
        points = outline(chance, width * 2, height * 2)
        left, right = min(x for x, _ in points), max(x for x, _ in points)
        top, bottom = min(y for _, y in points), max(y for _, y in points)
        if kind < 0.35:
            pen.ellipse((left, top, right, bottom), fill=255)
        elif kind < 0.75:
            pen.polygon(points, fill=255)
        else:
            pen.line((left, top, right, bottom), fill=255, width=max(2, round(chance.uniform(3, 10) * 2 * unit)))
        place(canvas, surface(chance, canvas.size, unit), mask, light)


def draw_landscape(canvas: Image.Image, chance: random.Random, unit: float) -> None:
    """Draws ground below a horizon, with hills and a few things on it."""
    width, height = canvas.size
    level = chance.uniform(0.35, 0.6)
    for _ in range(chance.randint(1, 3)):
        knots = chance.randint(4, 12)
        rough = chance.uniform(0.01, 0.1)
        line = [(2 * width * k / knots, 2 * height * (level + chance.uniform(-rough, rough))) for k in range(knots + 1)]
        mask = Image.new("L", (width * 2 + 2, height * 2 + 2))
        ImageDraw.Draw(mask).polygon([*line, (2 * width + 2, 2 * height + 2), (0, 2 * height + 2)], fill=255)
        place(canvas, surface(chance, canvas.size, unit), mask, None)
        level += chance.uniform(0.08, 0.2)
    draw_objects(canvas, chance, unit, chance.randint(3, 6))


def draw_fields(canvas: Image.Image, chance: random.Random, unit: float) -> None:
    """Draws fields and roofs from above, cut by roads."""
    width, height = canvas.size
    draw_objects(canvas, chance, unit, chance.randint(6, 10))
    for _ in range(chance.randint(1, 3)):
        mask = Image.new("L", (width * 2 + 2, height * 2 + 2))
        ends = [chance.uniform(0, 2 * side) for side in (width, width, height, height)]
        road = (ends[0], 0, ends[1], 2 * height) if chance.random() < 0.5 else (0, ends[2], 2 * width, ends[3])
        ImageDraw.Draw(mask).line(road, fill=255, width=round(chance.uniform(4, 14) * 2 * unit))
        place(canvas, surface(chance, canvas.size, unit), mask, None)


def draw_page(canvas: Image.Image, chance: random.Random, unit: float) -> None:
    """Draws lines of words as short bars, and a few figures, on paper."""
    width, height = canvas.size
    mask = Image.new("L", (width * 2 + 2, height * 2 + 2))
    pen = ImageDraw.Draw(mask)
    row, margin = chance.uniform(9, 18) * 2 * unit, chance.uniform(0.04, 0.12) * 2 * width
    y = margin
    while y < 2 * height - margin:
        x = margin
        while x < 2 * width - margin:
            word = chance.uniform(0.8, 3.5) * row
            pen.rectangle((x, y, min(x + word, 2 * width - margin), y + row * 0.45), fill=255)
            x += word + row * 0.5
        y += row * chance.choice((1, 1, 1, 2))
    place(canvas, surface(chance, canvas.size, unit), mask, None)
    draw_objects(canvas, chance, unit, chance.randint(1, 3))


def draw_scene(chance: random.Random, category: str, size: tuple[int, int]) -> Image.Image:
    """Draws a scene (mode RGB) of one of CATEGORIES in ``size`` = (width, height) pixels."""
    unit = min(size) / 336
    canvas = surface(chance, size, unit)
    if category == "object":
        draw_objects(canvas, chance, unit, chance.randint(5, 9))
    else:
        {"scene": draw_landscape, "satellite": draw_fields, "doc": draw_page}[category](canvas, chance, unit)
    return canvas
