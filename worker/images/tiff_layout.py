"""Checks the layout of a TIFF's pixels: how much work it makes for a decoder, and whether Pillow can read it."""

from worker.errors import ImageError, Reason
from worker.images.directory import Directory
from worker.images.limits import MAX_PASSES, check_blocks, check_pixels

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _PLANAR = 256, 257, 258, 259, 262, 277, 284
_ROWS, _TILE_WIDTH, _TILE_HEIGHT, _COLOUR_MAP, _EXTRA = 278, 322, 323, 320, 338
_BLOCKS = {273, 279, 324, 325}
_SMALLEST_TILE = 16 * 16
"""Pixels of the smallest tile that the format allows."""
_TILES = 4
"""All tiles together may have this many times the limit on pixels, because they may reach over the image's edges."""
_COLOURS = 3 * 2**16
"""Numbers in a palette of 16 bits."""
_JPEG = {6, 7}
_WEBP = 50001


def check_work(page: Directory, tags: set[int], max_pixels: int) -> None:
    """Raises ImageError with too_many_pixels or corrupt if decoding would take very long or very much memory.

    `tags`: the tags that are read. The size of the file says nothing, because many tiles may share one compressed
    block. The scans of a JPEG in a TIFF are limited as in any JPEG: see worker.images.limits.MAX_PASSES.
    """
    width, height = int(page.number(_WIDTH, 0)), int(page.number(_HEIGHT, 0))
    strip = width * min(height, int(page.number(_ROWS, height)))
    tiles = 0
    if _TILE_WIDTH in page.entries or _TILE_HEIGHT in page.entries:
        across, down = int(page.number(_TILE_WIDTH, width)), int(page.number(_TILE_HEIGHT, height))
        if min(across, down) < 1:
            raise ImageError(Reason.CORRUPT, f"tiles of {across} x {down} pixels")
        strip = across * down
        check_pixels(strip, max_pixels, f"a tile of {across} x {down} pixels")
        tiles = -(-width // across) * -(-height // down)
        check_pixels(tiles * strip, _TILES * max_pixels, f"{tiles} tiles of {across} x {down} pixels")
    _check_counts(page, tags, tiles if strip >= _SMALLEST_TILE else 0)
    if page.number(_COMPRESSION, 1) in _JPEG:
        scans = page.data.count(b"\xff\xda")
        check_pixels(scans * strip, MAX_PASSES * max_pixels, f"{scans} scans of {strip} pixels each")


def _check_counts(page: Directory, tags: set[int], tiles: int) -> None:
    """Checks how many numbers each entry has: at most as many as the image has tiles, or at most MAX_BLOCKS."""
    planes = int(page.number(_SAMPLES, 1)) if page.number(_PLANAR, 1) == 2 else 1  # noqa: PLR2004 - by the format
    for tag in tags & page.entries.keys():
        entry = page.entries[tag]
        most = {_COLOUR_MAP: _COLOURS}.get(tag, tiles * planes if tag in _BLOCKS else 0)
        if entry.values_at is not None and entry.count > most:
            check_blocks(entry.count, f"values in TIFF tag {tag}")


def check_is_read(page: Directory) -> None:
    """Raises ImageError with unsupported_format for layouts that Pillow cannot read or reads wrongly."""
    samples, bits, compression = (int(page.number(tag, 1)) for tag in (_SAMPLES, _BITS, _COMPRESSION))
    is_planar = page.number(_PLANAR, 1) == 2 and compression == 1  # noqa: PLR2004 - by the format
    said = None
    if page.order == ">" and page.is_big:
        said = "a big-endian BigTIFF"
    elif compression == _WEBP:
        said = "a TIFF with WebP in it"
    elif samples == 1 and bits > 8 and _PHOTOMETRIC not in page.entries:  # noqa: PLR2004
        said = "a TIFF that does not say whether its largest number is black or white"
    elif is_planar and samples > 1 and (bits != 8 or 0 in page.numbers(_EXTRA)):  # noqa: PLR2004
        said = "a TIFF with uncompressed planes that do not have 8 bits, or with an extra plane of unknown meaning"
    if said:
        raise ImageError(Reason.UNSUPPORTED_FORMAT, said)
