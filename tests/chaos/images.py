"""The images of the suite. They are tiny. Each has a content of its own, and a verdict that it must get."""

import hashlib
import io
from dataclasses import dataclass
from functools import cached_property

from PIL import Image

EDGE = 16
DARK, BRIGHT = 5, 250


@dataclass(frozen=True)
class Picture:
    """A PNG in one grey level. The scripted engine calls dark images real and bright ones fake.

    `number` decides the content.
    """

    number: int

    @property
    def verdict(self) -> str:
        """The verdict that a worker must give."""
        return "fake" if self.number % 2 else "real"

    @cached_property
    def data(self) -> bytes:
        """The bytes of the file."""
        level = BRIGHT if self.number % 2 else DARK
        image = Image.new("RGB", (EDGE, EDGE), (level, level, level))
        image.putpixel((EDGE - 1, EDGE - 1), (self.number % 256, self.number // 256 % 256, self.number // 65536 % 256))
        file = io.BytesIO()
        image.save(file, "PNG")
        return file.getvalue()

    @cached_property
    def etag(self) -> str:
        """The ETag, which is the MD5 in S3, without quotes."""
        return hashlib.md5(self.data).hexdigest()
