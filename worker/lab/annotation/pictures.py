"""The image as annotators see it: upright, its longer side bounded, as a JPEG in a data URL."""

import base64
import io

from PIL.Image import Image, Resampling

LONGEST_SIDE = 1024
"""Pixels. Vendors scale larger images down themselves, or charge for them."""
QUALITY = 90
"""JPEG's, where traces of compression are still weak; annotators see what a person sees, not single pixels."""
REVISION = f"jpeg-{QUALITY}@{LONGEST_SIDE}"
"""Named in the journal: raise it whenever an annotator may see another pixel."""


def data_url(image: Image) -> str:
    """The RGB image, never enlarged."""
    picture = image.copy()
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Resampling.BICUBIC)
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"
