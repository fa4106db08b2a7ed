"""Prepares an image for annotators: upright, with a bounded longer side, as a JPEG in a data URL."""

import base64
import io

from PIL.Image import Image, Resampling

LONGEST_SIDE = 1024
"""In pixels. Vendors scale larger images down, or charge for them."""
QUALITY = 90
"""JPEG quality. Traces of compression are still weak, and annotators see what a person sees, not single pixels."""
REVISION = f"jpeg-{QUALITY}@{LONGEST_SIDE}"
"""Stored in the journal. Raise it whenever an annotator may see different pixels."""


def data_url(image: Image) -> str:
    """Returns the RGB image as a data URL. It is never enlarged."""
    picture = image.copy()
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Resampling.BICUBIC)
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"
