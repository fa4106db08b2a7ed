"""HEIF files with more or larger items than their picture shows."""

import pytest

from tests.heifs import Item, coded, grid, heif, ispe
from worker.errors import ImageError, Reason
from worker.image_memory import decode_bytes
from worker.images import MAX_PIXELS, SizeLimits, open_image

TILE = coded(256, 256)


def reason_of(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Reason:
    """Returns the reason of the refusal. Reading only the header must give the same reason."""
    with pytest.raises(ImageError) as caught:
        open_image(data, limits=SizeLimits(max_pixels=max_pixels))
    with pytest.raises(ImageError) as promised:
        decode_bytes(data, limits=SizeLimits(max_pixels=max_pixels))
    assert promised.value.reason == caught.value.reason
    return caught.value.reason


def test_a_grid_is_read() -> None:
    data = heif([TILE, grid(2, 2, 500, 400)], [(b"dimg", 2, [1] * 4)], primary=2)
    assert open_image(data, limits=SizeLimits(max_pixels=200_000)).size == (500, 400)


def test_a_large_item_of_a_small_picture_counts() -> None:
    large = coded(1024, 1024)
    clap = (b"clap", b"".join(one.to_bytes(4) for one in (64, 1, 64, 1, 0, 1, 0, 1)))
    cut = heif([Item(large.kind, large.body, [*large.properties, clap])])
    assert open_image(cut).size == (64, 64)
    alpha = (b"auxC", b"\x00\x00\x00\x00urn:mpeg:hevc:2015:auxid:1\x00")
    files = (
        cut,
        heif([large, grid(1, 1, 64, 64)], [(b"dimg", 2, [1])], primary=2),
        heif([coded(64, 64), Item(large.kind, large.body, [*large.properties, alpha])], [(b"auxl", 2, [1])]),
    )
    for data in files:
        assert reason_of(data, max_pixels=1024 * 1024 - 1) == Reason.TOO_MANY_PIXELS
        assert decode_bytes(data) > decode_bytes(heif([coded(64, 64)])) + 2 * 2 * 1024 * 1024


def test_an_item_that_is_used_many_times() -> None:
    data = heif([TILE, grid(8, 8, 64, 64)], [(b"dimg", 2, [1] * 64)], primary=2)
    assert open_image(data, limits=SizeLimits(max_pixels=32 * 65_536)).size == (64, 64)
    assert reason_of(data, max_pixels=32 * 65_536 - 1) == Reason.TOO_MANY_PIXELS


def test_a_grid_of_grids_is_not_read() -> None:
    links = [(b"dimg", 2, [1] * 4), (b"dimg", 3, [2] * 4)]
    data = heif([TILE, grid(2, 2, 64, 64), grid(2, 2, 64, 64)], links, primary=3)
    assert reason_of(data) == Reason.UNSUPPORTED_FORMAT
    own = heif([TILE, grid(1, 1, 64, 64)], [(b"dimg", 2, [2])], primary=2)
    assert reason_of(own) == Reason.UNSUPPORTED_FORMAT


def test_a_list_of_items_that_decoders_could_read_differently() -> None:
    data = heif([TILE])
    meta = data.index(b"meta") - 4
    twice = data[:meta] + data[meta : meta + int.from_bytes(data[meta : meta + 4])] + data[meta:]
    hidden = data[:meta] + b"\x00\x00\x00\x08free" * 10_001 + data[meta:]
    for broken in (twice, hidden):
        assert reason_of(broken) == Reason.CORRUPT


def test_no_other_item_is_judged_if_the_primary_one_cannot_be_read() -> None:
    for kind, reason in ((b"av01", Reason.UNSUPPORTED_FORMAT), (b"grid", Reason.CORRUPT), (b"hvc1", Reason.CORRUPT)):
        assert reason_of(heif([Item(kind, b"\x00" * 9, [ispe(256, 256)]), TILE])) == reason
