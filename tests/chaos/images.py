"""The images of the suite: tiny, each with a content of its own, and each with the verdict that it must get."""

import hashlib
import io
from dataclasses import dataclass
from functools import cached_property

from PIL import Image

EDGE = 16
DARK, BRIGHT = 5, 250


@dataclass(frozen=True)
class Picture:
    """A PNG in one grey level: dark ones are real, bright ones fake, as the scripted engine sees it. `number` makes its
    content.
    """

    number: int

    @property
    def verdict(self) -> str:
        """What a worker must say of it."""
        return "fake" if self.number % 2 else "real"

    @cached_property
    def data(self) -> bytes:
        """The file."""
        level = BRIGHT if self.number % 2 else DARK
        image = Image.new("RGB", (EDGE, EDGE), (level, level, level))
        image.putpixel((EDGE - 1, EDGE - 1), (self.number % 256, self.number // 256 % 256, self.number // 65536 % 256))
        file = io.BytesIO()
        image.save(file, "PNG")
        return file.getvalue()

    @cached_property
    def etag(self) -> str:
        """MD5, without quotes, as S3 has it."""
        return hashlib.md5(self.data).hexdigest()
