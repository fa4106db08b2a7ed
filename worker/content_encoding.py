"""Unpacks the bytes of an object that was stored with a `Content-Encoding`.

S3 only stores this header, and neither boto3 nor obstore unpacks the bytes. The header is often wrong: people write
"base64" or "utf-8" although the bytes are the plain image. So the bytes decide whether they are unpacked.
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
    """Returns the image in `data`. `encodings` is its `Content-Encoding`: a comma list, in the order of packing.

    gzip and deflate are unpacked. Bytes that are already an image stay as they are. So do bytes with another encoding,
    except br, zstd and compress, which cannot be unpacked here.
    Raises ImageError: `too_large` if the result has more than `max_bytes`, `corrupt` for broken gzip,
    `unsupported_format` for br, zstd and compress.
    """
    names = [name.strip().lower() for name in (encodings or "").split(",")]
    for name in names[: -_MOST_LAYERS - 1 : -1]:
        if name in {"gzip", "x-gzip"} and data.startswith(_GZIP):
            data = _gunzipped(data, max_bytes)
        elif name == "deflate" and not _is_image(data):
            data = _inflated(data, max_bytes)
        elif name in _UNREADABLE and not _is_image(data):
            raise ImageError(
                Reason.UNSUPPORTED_FORMAT, f"stored with Content-Encoding: {name}; only gzip and deflate can be read"
            )
    return data


def _is_image(data: bytes) -> bool:
    return bool(filetype.image_match(data))


def _gunzipped(data: bytes, max_bytes: int) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            return _checked(file.read(max_bytes + 1), max_bytes)
    except (OSError, EOFError, zlib.error) as error:
        raise ImageError(Reason.CORRUPT, f"stored with Content-Encoding: gzip, but broken: {error}") from error


def _inflated(data: bytes, max_bytes: int) -> bytes:
    """Unpacks deflate, with zlib's header as in HTTP, or without it as some programs write. Keeps other bytes."""
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
            f"more than {max_bytes} bytes when unpacked, which is the limit (FAKESWEEP_MAX_BYTES)",
        )
    return data
