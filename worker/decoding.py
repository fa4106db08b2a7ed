"""Turns an image's bytes into pixels for the detector, and into a hash, within the allowed memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import overload

from PIL.Image import Image

from worker.case import NOTHING, Case, Content, Failed, Known
from worker.errors import ImageError, Reason
from worker.image_memory import decode_bytes
from worker.images import Opened, open_for, to_square
from worker.messages import ImageRef
from worker.metrics.declared import DECODE, PROVENANCE
from worker.parts import Parts
from worker.provenance import ReadProvenance


@dataclass(frozen=True)
class Fetched:
    """The bytes of an image that is on its way, and what is known about its content already."""

    ref: ImageRef
    content: Content
    data: bytes
    known: Known = NOTHING


@dataclass(frozen=True)
class Decoded:
    """The pixels that the detector sees, in RGB. `size` is (width, height) of the upright image, in pixels."""

    ref: ImageRef
    content: Content
    size: tuple[int, int]
    pixels: Image
    known: Known = NOTHING


@overload
def with_provenance(image: Fetched, parts: Parts) -> Fetched: ...
@overload
def with_provenance(image: Case, parts: Parts) -> Case: ...
def with_provenance(image: Fetched | Case, parts: Parts) -> Fetched | Case:
    """Reads what an image says about its origin, unless it has its end already."""
    if isinstance(image, Case) or parts.provenance is None:
        return image
    with parts.metrics.timed(PROVENANCE):
        said = parts.provenance.read(image.data)
    if said is None:
        return image
    read = ReadProvenance(parts.provenance.revision, said)
    return replace(image, content=replace(image.content, provenance=read))


def decode(image: Fetched | Case, parts: Parts) -> Decoded | Case:
    """Decodes an image that has no end yet, and hashes it. If it cannot be decoded, this is its end."""
    if isinstance(image, Case):
        return image
    form = parts.description.preprocessing
    size, content = None, image.content
    try:
        with _opened(image.data, parts) as opened:
            size = opened.size
            content = _with_hash(content, opened.pixels, parts)
            pixels = to_square(opened.pixels, edge=form.edge, fit=form.fit, max_pixels=parts.limits.max_pixels)
    except ImageError as error:
        return Case(image.ref, Failed(error, content, size))
    return Decoded(image.ref, content, size, pixels, image.known)


def hashed(image: Fetched, parts: Parts) -> Content:
    """Returns the content with its hash. If the image cannot be decoded, returns the content without one."""
    if parts.hasher is None:
        return image.content
    try:
        with _opened(image.data, parts) as opened:
            return _with_hash(image.content, opened.pixels, parts)
    except ImageError:
        return image.content


def _with_hash(content: Content, pixels: Image, parts: Parts) -> Content:
    return content if parts.hasher is None else replace(content, pdq=parts.hasher(pixels))


@contextmanager
def _opened(data: bytes, parts: Parts) -> Iterator[Opened]:
    """Returns the upright image, as large as the detector needs it. Waits for memory and for a free decoder."""
    form, limits = parts.description.preprocessing, parts.limits
    needed = decode_bytes(data, edge=form.edge, fit=form.fit, decoding=form.decode, limits=limits)
    _check_memory(needed, parts)
    with parts.pixels.take(needed, live=parts.live), parts.decoders, parts.metrics.timed(DECODE):
        yield open_for(data, edge=form.edge, decoding=form.decode, limits=limits)


def _check_memory(needed: int, parts: Parts) -> None:
    if needed > (limit := parts.pixels.limit(live=parts.live)):
        detail = (
            f"decoding needs up to {needed >> 20} MiB, and {limit >> 20} MiB are allowed "
            "(raise FAKESWEEP_IMAGE_MEMORY_MIB)"
        )
        raise ImageError(Reason.TOO_MANY_PIXELS, detail)
