"""Scenes are drawn faster than over the whole canvas, and look the same."""

import pytest
from PIL import Image, ImageDraw, ImageFilter

from deploy.demo.scenes import place

SIZE = (90, 70)
BOXES = {"inside": (60, 50, 90, 80), "over the edge": (-20, 100, 30, 200), "outside": (-40, -40, -20, -20)}
"""On a mask of twice the size."""


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
@pytest.mark.parametrize("shadow", [None, (-8, 5, 2.0), (3, -9, 2.6), (4, 9, 9.7)], ids=str)
def test_what_is_placed_looks_as_if_the_whole_canvas_were_computed(
    box: tuple[int, int, int, int], shadow: tuple[int, int, float] | None
) -> None:
    mask = Image.new("L", (SIZE[0] * 2 + 2, SIZE[1] * 2 + 2))
    ImageDraw.Draw(mask).ellipse(box, fill=255)
    canvas, fill = Image.linear_gradient("L").resize(SIZE).convert("RGB"), Image.new("RGB", SIZE, (200, 90, 30))
    whole = canvas.copy()
    place(canvas, fill, mask, shadow)
    half = mask.reduce(2).crop((0, 0, *SIZE))
    if shadow:
        shade = Image.new("L", SIZE)
        shade.paste(half, shadow[:2])
        shade = shade.filter(ImageFilter.GaussianBlur(shadow[2])).point(lambda value: value * 0.45)
        whole.paste((8, 8, 14), (0, 0), shade)
    whole.paste(fill, (0, 0), half)
    assert canvas.tobytes() == whole.tobytes()
