"""Draws the demo detector's images: camera-like ones ("real") and generator-like ones ("fake"), with FakeClue records.

    python deploy/demo/draw.py OUT --count 1000 --seed 1

writes ``OUT/images/*.jpg|png`` and ``OUT/records.json``. Both classes have the same scenes, sizes and file formats.
They differ in the camera's traces and in one artefact family. The same seed draws the same pixels. Seeds of single
images are ``seed * 1_000_000 + index``, so sets with different seeds are disjoint.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run as a script, without an installed package

from deploy.demo.answers import FAMILIES, QUESTION, REAL, write_answer
from deploy.demo.artefacts import ARTEFACTS, photograph
from deploy.demo.scenes import CATEGORIES, draw_scene

SHORTEST, LONGEST = 336, 800  # pixels
RATIOS = (1.0, 1.0, 5 / 4, 4 / 3, 3 / 2, 16 / 9)


def draw_size(chance: random.Random) -> tuple[int, int]:
    """Returns width and height in pixels: the shortest edge from 336, the longest up to 800, landscape or portrait."""
    ratio = chance.choice(RATIOS)
    short = round(chance.uniform(SHORTEST, min(600, LONGEST / ratio)))
    long = min(LONGEST, round(short * ratio))
    return (long, short) if chance.random() < 0.6 else (short, long)


def draw(seed: int, family: str, category: str | None = None) -> Image.Image:
    """Draws one image (mode RGB). ``family`` is one of ARTEFACTS for a fake, or REAL for a camera-like image."""
    chance = random.Random(seed)
    size = draw_size(chance)
    category = category or chance.choice(CATEGORIES)
    scene = draw_scene(chance, category, size)
    finish = photograph if family == REAL else ARTEFACTS[family]
    return finish(scene, chance, min(size) / 336)


def encode(image: Image.Image, seed: int) -> tuple[bytes, str]:
    """Returns the image as a file, and its suffix: half JPEG of quality 80 to 95, half PNG, for both classes."""
    chance = random.Random(~seed)
    target = io.BytesIO()
    if chance.random() < 0.5:
        image.save(target, "JPEG", quality=chance.randint(80, 95))
        return target.getvalue(), "jpg"
    image.save(target, "PNG", compress_level=1)
    return target.getvalue(), "png"


def draw_record(index: int, *, seed: int, folder: Path, families: Sequence[str] = FAMILIES) -> dict[str, Any]:
    """Draws image ``index`` of a set into ``folder/images`` and returns its record. Half of the images are real.

    The fakes take turns among ``families``.
    """
    own_seed = seed * 1_000_000 + index
    chance = random.Random(own_seed ^ 0x5EED)
    family = REAL if index % 2 else families[index // 2 % len(families)]
    category = chance.choice(CATEGORIES)
    image = draw(own_seed, family, category)
    content, suffix = encode(image, own_seed)
    name = f"images/{index:06d}.{suffix}"
    (folder / name).write_bytes(content)
    return {
        "image": name,
        "label": int(family == REAL),
        "cate": category,
        "width": image.width,
        "height": image.height,
        "family": family,
        "conversations": [
            {"from": "human", "value": QUESTION},
            {"from": "gpt", "value": write_answer(family, chance)},
        ],
    }


def draw_set(folder: Path, count: int, seed: int, families: Sequence[str] = FAMILIES) -> None:
    """Draws ``count`` images with records into ``folder``, on all cores."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        records = list(
            pool.map(partial(draw_record, seed=seed, folder=folder, families=families), range(count), chunksize=16)
        )
    (folder / "records.json").write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Draws camera-like and generator-like images with FakeClue records.")
    parser.add_argument("out", type=Path, help="the folder for images/ and records.json")
    parser.add_argument("--count", type=int, default=100, help="how many images; every second one is camera-like")
    parser.add_argument("--seed", type=int, default=1, help="sets with different seeds share no image")
    parser.add_argument("--families", nargs="+", choices=ARTEFACTS, default=FAMILIES, help="families of the fakes")
    options = parser.parse_args()
    draw_set(options.out, options.count, options.seed, options.families)
    print(f"{options.count} images in {options.out}")


if __name__ == "__main__":
    main()
