"""Fakes that behave like the real parts. The contract suites run on both."""

import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL.Image import Image

from worker.detector.description import VlmDescription
from worker.detector.engine import Completion, Step
from worker.errors import EngineDeadError, EngineGenerateError, ImageError, Reason
from worker.messages import Explain, ImageRef
from worker.provenance import Provenance


class InMemoryImageStore:
    """An ImageStore over a dictionary from uri to bytes. An exception in place of bytes is raised."""

    def __init__(self, objects: Mapping[str, bytes | Exception], *, max_bytes: int = 64 * 2**20) -> None:
        self.objects = dict(objects)
        self.fetched: list[str] = []
        self._max_bytes = max_bytes

    def etag(self, uri: str) -> str:
        """Returns the MD5, which S3 uses as the ETag of objects that were stored in one part."""
        content = self.objects[uri]
        if isinstance(content, Exception):
            raise content
        return hashlib.md5(content).hexdigest()  # noqa: S324 - S3's ETag

    def fetch(self, ref: ImageRef) -> bytes:
        """See worker.storage.ImageStore."""
        self.fetched.append(ref.uri)
        content = self.objects.get(ref.uri)
        if content is None:
            raise ImageError(Reason.NOT_FOUND, "no such object")
        if isinstance(content, Exception):
            raise content
        if ref.etag and ref.etag != self.etag(ref.uri):
            raise ImageError(Reason.CHANGED, "the object was replaced after it was listed")
        if len(content) > self._max_bytes:
            raise ImageError(Reason.TOO_LARGE, f"{len(content)} bytes; the limit is {self._max_bytes}")
        return content


class ScriptedProvenance:
    """A fake ProvenanceReader: each file says what the script has under its bytes. All others say nothing.

    A file for which the script has None cannot be read now. `read_files` holds the bytes that were read, in order.
    """

    def __init__(self, script: Mapping[bytes, Provenance | None], *, revision: str = "scripted") -> None:
        self._script = dict(script)
        self.revision = revision
        self.read_files: list[bytes] = []

    def read(self, data: bytes) -> Provenance | None:
        """See ProvenanceReader.read."""
        self.read_files.append(data)
        return self._script.get(data, Provenance())

    def close(self) -> None:
        """Does nothing."""


def brightness(image: Image) -> float:
    """Returns the scripted detector's P(fake): the mean grey level divided by 255. Bright images are fake, dark
    ones real.
    """
    histogram = image.convert("L").histogram()
    return sum(level * count for level, count in enumerate(histogram)) / (255 * sum(histogram))


class ScriptedEngine:
    """An Engine whose score is a function of the image and whose answer has FakeVLM's form.

    `fail` may raise an error for an image: EngineGenerateError concerns that image alone, EngineDeadError kills the
    engine.
    """

    name, on_gpu = "scripted", False

    def __init__(
        self,
        score: Callable[[Image], float] = brightness,
        *,
        explanation: str = "The picture is brighter than a camera makes it.",
        fail: Callable[[Image], None] = lambda _image: None,
    ) -> None:
        self._score, self._explanation, self._fail = score, explanation, fail
        self.calls: list[int] = []
        """How many images each call had."""
        self.lives: list[bool] = []
        """Whether each call was for live images."""
        self._dead = False

    def complete(
        self,
        images: Sequence[Image],
        *,
        explain: Explain = Explain.FLAGGED,
        max_tokens: int | None = None,
        live: bool = False,
    ) -> list[Completion | EngineGenerateError]:
        """See Engine."""
        self.check()
        self.calls.append(len(images))
        self.lives.append(live)
        return [self._complete(image, explain, max_tokens) for image in images]

    def _complete(self, image: Image, explain: Explain, max_tokens: int | None) -> Completion | EngineGenerateError:
        try:
            self._fail(image)
        except EngineGenerateError as error:
            return error
        except EngineDeadError:
            self._dead = True
            raise
        fake = min(max(self._score(image), 1e-6), 1 - 1e-6)
        word = "fake" if fake >= 0.5 else "real"  # noqa: PLR2004
        speak = explain == Explain.ALL or (explain == Explain.FLAGGED and word == "fake")
        return answering(f"This is a {word} image." + (f" {self._explanation}" if speak else ""), fake, max_tokens)

    def check(self) -> None:
        """See Engine."""
        if self._dead:
            raise EngineDeadError("the scripted engine is dead")

    def close(self) -> None:
        """See Engine."""
        self._dead = True


def scripted_description(**changes: Any) -> VlmDescription:
    """Returns the description of the scripted detector: FakeVLM's form of answer, judged by brightness."""
    prompts = {"official-raw": "<image>Does the image looks real/fake?"}
    content = {"name": "scripted", "model": "scripted", "revision": "1", "prompt": "official-raw", "prompts": prompts}
    return VlmDescription.model_validate(content | changes)


def answering(text: str, fake: float = 0.9, max_tokens: int | None = None) -> Completion:
    """Returns a completion with one token per word. P(fake) is given at every "fake" and "real", and other tokens
    have almost none.
    """
    pieces = re.findall(r"\s*\w+|\s*[^\w\s]|\s+$", text)
    steps = tuple(
        Step(10 + number, piece, math.log(fake), math.log(1 - fake), is_verdict=True)
        if piece.strip().lower() in {"fake", "real"}
        else Step(10 + number, piece, -15.0, -14.0, is_verdict=False)
        for number, piece in enumerate(pieces[:max_tokens])
    )
    return Completion(steps, prompt_token_ids=(1, 2, 3), latency_ms=1, cut_off=len(steps) < len(pieces))


class ScriptedTower:
    """A tower whose features are the mean of each colour, from 0 to 1. `seen` is how many images it has seen.

    After `ends_after` images, it raises KeyboardInterrupt, as Ctrl-C does.
    """

    def __init__(self, ends_after: int | None = None) -> None:
        self.seen = 0
        self._ends_after = ends_after

    def features(self, squares: Sequence[Image]) -> Any:
        """See worker.lab.training.head.seeing.FeatureSource."""
        if self._ends_after is not None and self.seen + len(squares) > self._ends_after:
            raise KeyboardInterrupt
        self.seen += len(squares)
        return np.stack([np.asarray(one, np.float32).mean((0, 1)) / 255 for one in squares])
