"""From the bytes of an object to the image in them, where the object was stored with a `Content-Encoding`.

S3 stores that header and does nothing else with it, and neither boto3 nor obstore unpacks. What people write into it is
often not true: "base64" or "utf-8" stand beside bytes that are the plain image. So the bytes have the last word.
"""

import gzip
import io
import zlib

import filetype

from worker.errors import ImageError, Reason

_GZIP = b"\x1f\x8b"
_UNREADABLE = ("br", "zstd", "compress", "x-compress")
_MOST_LAYERS = 4


def unpacked(data: bytes, encodings: str | None, max_bytes: int) -> bytes:
    """The image in `data`, which was stored under this `Content-Encoding` (a comma list, in the order of packing).

    gzip and deflate are unpacked; bytes that are an image already are left as they are, and so is what has another
    encoding that packs nothing. Raises ImageError: `too_large` for more than `max_bytes`, `corrupt` for gzip that is
    broken, `unsupported_format` for br, zstd and compress.
    """
    names = [name.strip().lower() for name in (encodings or "").split(",")]
    for name in names[: -_MOST_LAYERS - 1 : -1]:
        if name in {"gzip", "x-gzip"} and data.startswith(_GZIP):
            data = _gunzipped(data, max_bytes)
        elif name == "deflate" and not _is_image(data):
            data = _inflated(data, max_bytes)
        elif name in _UNREADABLE and not _is_image(data):
            raise ImageError(
                Reason.UNSUPPORTED_FORMAT, f"stored with Content-Encoding: {name}; gzip and deflate can be read"
            )
    return data


def _is_image(data: bytes) -> bool:
    return bool(filetype.image_match(data))


def _gunzipped(data: bytes, max_bytes: int) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            return _checked(file.read(max_bytes + 1), max_bytes)
    except (OSError, EOFError, zlib.error) as error:
        raise ImageError(Reason.CORRUPT, f"stored with Content-Encoding: gzip, and broken: {error}") from error


def _inflated(data: bytes, max_bytes: int) -> bytes:
    """With zlib's frame as HTTP has it, or without one as some write it; what is neither is left as it is."""
    for window in (zlib.MAX_WBITS, -zlib.MAX_WBITS):
        inflating = zlib.decompressobj(window)
        try:
            found = inflating.decompress(data, max_bytes + 1)
        except zlib.error:
            continue
        if inflating.eof or len(found) > max_bytes:
            return _checked(found, max_bytes)
    return data


def _checked(data: bytes, max_bytes: int) -> bytes:
    if len(data) > max_bytes:
        raise ImageError(
            Reason.TOO_LARGE,
            f"more than {max_bytes} bytes when unpacked; that is the limit (FAKESWEEP_MAX_BYTES)",
        )
    return data
