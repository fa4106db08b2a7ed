"""The hash that finds near duplicates: copies are near, other pictures are far, and it is the hash of its authors."""

import io

import numpy as np
import pdqhash
import pytest
from PIL import Image

from benchmarks.pictures import picture
from producers.near import MAX_DISTANCE
from worker.images import open_for
from worker.similarity import EDGE, PdqHash, find_hasher, small_square

SIZE = (1024, 768)


def hashed(image: Image.Image) -> PdqHash:
    hasher = find_hasher()
    assert hasher is not None
    return hasher(image)


def distance(one: Image.Image, other: Image.Image) -> int:
    return (int(hashed(one).bits, 16) ^ int(hashed(other).bits, 16)).bit_count()


def jpeg(image: Image.Image, quality: int = 40, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality, **options)
    return file.getvalue()


@pytest.mark.parametrize("seed", range(4))
def test_copies_are_near(seed: int) -> None:
    image = picture(SIZE, seed)
    copies = {
        "encoded again": open_for(jpeg(image)).pixels,
        "smaller": image.resize((410, 307), Image.Resampling.BICUBIC),
        "larger": image.resize((1500, 1125), Image.Resampling.BICUBIC),
        "another shape": image.resize((900, 900), Image.Resampling.BICUBIC),
        "cropped by 1 %": image.crop((5, 4, 1019, 764)),
        "brighter": image.point(lambda level: min(255, level + 15)),
    }
    found = {what: distance(image, copy) for what, copy in copies.items()}
    assert all(bits <= MAX_DISTANCE for bits in found.values()), found
    assert found["encoded again"] <= 6, found
    assert found["smaller"] <= 6, found


def test_other_pictures_are_far() -> None:
    images = [picture(SIZE, seed) for seed in range(8)]
    assert min(distance(one, other) for n, one in enumerate(images) for other in images[:n]) > 2 * MAX_DISTANCE


@pytest.mark.parametrize("seed", range(4))
def test_the_hash_is_that_of_the_library_and_near_that_at_the_authors_size(seed: int) -> None:
    """The authors reduce to 512 x 512. The order of hexadecimal digits is theirs, as in lists of known hashes."""
    image = picture(SIZE, seed)
    bits, quality = pdqhash.compute(np.asarray(small_square(image)))
    assert hashed(image) == PdqHash(f"{int(''.join(str(bit) for bit in bits), 2):064x}", quality)
    at_512, _ = pdqhash.compute(np.asarray(image.resize((512, 512), Image.Resampling.BILINEAR)))
    ours, _ = pdqhash.compute(np.asarray(small_square(image)))
    assert int((at_512 != ours).sum()) <= 12


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (3, 2), (EDGE, EDGE), (127, 4000)])
@pytest.mark.parametrize("mode", ["RGB", "RGBX"])
def test_any_size_has_a_hash_and_a_flat_image_has_no_quality(size: tuple[int, int], mode: str) -> None:
    found = hashed(Image.new(mode, size, "red"))
    assert (len(found.bits), found.quality) == (64, 0)


def test_the_fourth_byte_of_rgbx_is_ignored() -> None:
    image = picture(SIZE, 1)
    four = np.dstack([np.asarray(image), np.random.default_rng(0).integers(0, 255, SIZE[::-1], dtype=np.uint8)])
    assert hashed(Image.frombytes("RGBX", SIZE, four.tobytes())) == hashed(image)
