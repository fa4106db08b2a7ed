"""to_square() makes the square that a detector sees.

It resizes and crops exactly as the Pillow version of Hugging Face's CLIPImageProcessor does, bit for bit. It resizes
the shorter edge to `edge` with Pillow's bicubic filter, then takes the centre. FakeVLM was trained and evaluated in
this way (transformers 4.45).
"""

from PIL import Image, ImageOps

from worker.images.limits import MAX_PIXELS, check_pixels
from worker.images.preprocessing import EDGE, Fit

_BARS = (122, 116, 104)
"""CLIP's mean colour (0.481, 0.458, 0.408) in 8 bits, rounded down as in LLaVA-1.5."""


def to_square(
    image: Image.Image, *, edge: int = EDGE, fit: Fit = Fit.CROP, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Returns the image (RGB or RGBX) as `edge` x `edge` RGB.

    Raises ImageError with too_many_pixels for a long thin strip.
    """
    if fit in {Fit.STRETCH, Fit.STRETCH_BILINEAR}:
        smooth = Image.Resampling.BICUBIC if fit is Fit.STRETCH else Image.Resampling.BILINEAR
        return _rgb(image.resize((edge, edge), smooth))
    if fit is Fit.PAD:
        return _rgb(ImageOps.pad(image, (edge, edge), Image.Resampling.BICUBIC, color=_BARS))
    short, long = sorted(image.size)
    resized = int(edge * long / short)
    # A strip of 1 x 100,000 pixels is small, but the resized strip is not.
    check_pixels(edge * resized, max_pixels, f"{image.width} x {image.height} grows to {edge} x {resized} pixels")
    size = (edge, resized) if image.width <= image.height else (resized, edge)
    grown = image.resize(size, Image.Resampling.BICUBIC)
    left, top = (grown.width - edge) // 2, (grown.height - edge) // 2
    return _rgb(grown.crop((left, top, left + edge, top + edge)))


def _rgb(image: Image.Image) -> Image.Image:
    return image if image.mode == "RGB" else image.convert("RGB")
