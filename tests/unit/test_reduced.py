"""Large JPEGs are decoded at a part of their size. Others are not, and every limit still holds."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from worker.detector.description import Preprocessing
from worker.detector.vlm import VlmDetector
from worker.errors import ImageError, Reason
from worker.images import MAX_PIXELS, Decoding, Fit, SizeLimits, decode, open_for, open_image, to_square
from worker.lab.datasets.records import Record
from worker.lab.evaluation.journal import Journal
from worker.lab.evaluation.run import EvaluationParts, judge_records
from worker.lab.training.squares import ImageSource, prepare
from worker.testing import InMemoryImageStore, ScriptedEngine, scripted_description

REDUCED = Decoding.REDUCED
EDGE = 28
"""A small edge, so that images of some hundred pixels count as large."""


def photo(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Returns an image with gradients, edges and a little noise."""
    across, down = np.meshgrid(np.linspace(0, 200, width), np.linspace(0, 50, height))
    noise = np.random.default_rng(width * 10_000 + height).normal(0, 3, (height, width))
    levels = across + down + noise
    layers = [levels, 250 - levels, levels / 2 + 60 * (down > 25)]
    return Image.fromarray(np.stack(layers, axis=-1).clip(0, 255).astype(np.uint8)).convert(mode)


def jpeg(image: Image.Image, **options: object) -> bytes:
    target = io.BytesIO()
    image.save(target, "JPEG", **{"quality": 92} | options)
    return target.getvalue()


def oriented(image: Image.Image, orientation: int, **options: object) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return jpeg(image, exif=exif, **options)


def distance(one: Image.Image, other: Image.Image) -> float:
    """Returns the mean difference of two images of the same size, in levels of 255."""
    return float(np.abs(np.asarray(one).astype(int) - np.asarray(other).astype(int)).mean())


@pytest.mark.parametrize(
    ("size", "decoded"),
    [
        ((111, 111), (111, 111)),  # half of it would be one pixel too small
        ((112, 112), (56, 56)),
        ((223, 300), (112, 150)),
        ((224, 300), (56, 75)),
        ((450, 447), (113, 112)),
        ((448, 449), (56, 57)),
        ((1000, 900), (125, 113)),  # 1/8 is the smallest scale
        ((5000, 60), (5000, 60)),  # a strip, whose short edge counts
        ((60, 5000), (60, 5000)),
        ((2000, 230), (500, 58)),
    ],
)
@pytest.mark.parametrize("fit", Fit)
def test_the_smallest_scale_whose_edges_are_both_twice_what_is_needed(
    size: tuple[int, int], decoded: tuple[int, int], fit: Fit
) -> None:
    data = jpeg(photo(*size))
    opened = open_for(data, edge=EDGE, decoding=REDUCED)
    assert (opened.size, opened.pixels.size, opened.pixels.mode) == (size, decoded, "RGB")
    square = decode(data, edge=EDGE, fit=fit, decoding=REDUCED)
    assert square.size == (EDGE, EDGE)
    if decoded == size:
        assert square.tobytes() == decode(data, edge=EDGE, fit=fit).tobytes()


@pytest.mark.parametrize("fit", Fit)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_pixels_are_nearly_those_of_the_full_size(fit: Fit, mode: str, progressive: bool) -> None:
    data = jpeg(photo(1500, 1400, mode), progressive=progressive)
    full, reduced = (decode(data, fit=fit, decoding=decoding) for decoding in Decoding)
    assert full.tobytes() != reduced.tobytes()
    assert distance(full, reduced) < 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_applied_and_the_size_is_that_of_the_upright_image(orientation: int) -> None:
    data = oriented(photo(450, 340), orientation)
    opened = open_for(data, edge=EDGE, decoding=REDUCED)
    whole = open_image(data)
    assert opened.size == whole.size == ((450, 340) if orientation < 5 else (340, 450))
    assert opened.pixels.size == ((113, 85) if orientation < 5 else (85, 113))
    assert distance(opened.pixels, whole.resize(opened.pixels.size, Image.Resampling.BOX)) < 2


def test_the_upright_size_is_known_if_the_reduced_image_is_square() -> None:
    opened = open_for(oriented(photo(451, 449), 6), edge=EDGE, decoding=REDUCED)
    assert (opened.size, opened.pixels.size) == ((449, 451), (57, 57))


def test_a_phones_jpeg_with_a_second_picture_in_it() -> None:
    target = io.BytesIO()
    photo(450, 340).save(target, "MPO", save_all=True, append_images=[photo(90, 60)])
    with Image.open(io.BytesIO(target.getvalue())) as image:
        assert image.format == "MPO"
    opened = open_for(target.getvalue(), edge=EDGE, decoding=REDUCED)
    assert (opened.size, opened.pixels.size) == ((450, 340), (113, 85))


@pytest.mark.parametrize("form", ["PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_other_formats_are_never_reduced(form: str) -> None:
    target = io.BytesIO()
    photo(450, 340).save(target, form)
    data = target.getvalue()
    assert open_for(data, edge=EDGE, decoding=REDUCED).pixels.size == (450, 340)
    assert decode(data, edge=EDGE, decoding=REDUCED).tobytes() == decode(data, edge=EDGE).tobytes()


def test_a_jpeg_inside_a_tiff_is_not_reduced() -> None:
    target = io.BytesIO()
    photo(450, 340).save(target, "TIFF", compression="jpeg")
    assert open_for(target.getvalue(), edge=EDGE, decoding=REDUCED).pixels.size == (450, 340)


def test_nothing_is_reduced_by_default() -> None:
    data = jpeg(photo(450, 340))
    assert open_for(data, edge=EDGE).pixels.size == (450, 340)
    assert decode(data, edge=EDGE).tobytes() == to_square(open_image(data), edge=EDGE).tobytes()


def reason_of(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Reason:
    with pytest.raises(ImageError) as caught:
        decode(data, edge=EDGE, decoding=REDUCED, limits=SizeLimits(max_pixels=max_pixels))
    return caught.value.reason


def test_pixels_are_counted_in_full_size() -> None:
    data = jpeg(photo(450, 340))
    assert reason_of(data, max_pixels=450 * 340 - 1) == Reason.TOO_MANY_PIXELS
    assert decode(data, edge=EDGE, decoding=REDUCED, limits=SizeLimits(max_pixels=450 * 340)).size == (EDGE, EDGE)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_a_truncated_file_is_corrupt(share: float, progressive: bool) -> None:
    data = jpeg(photo(900, 700), progressive=progressive)
    assert reason_of(data[: int(len(data) * share)]) == Reason.CORRUPT


# Training and evaluation decode in the same way


def record(number: int) -> Record:
    return Record.model_validate({"image": f"{number}.jpg", "label": number % 2, "line": number + 1})


def test_training_sees_what_the_worker_sees(tmp_path: Path) -> None:
    data = jpeg(photo(450, 340))
    form = Preprocessing(edge=EDGE, decode=REDUCED)
    source = ImageSource(InMemoryImageStore({"s3://b/0.jpg": data}), "s3://b", form)
    learned = prepare([record(0)], source, tmp_path, "key", lambda _fault: None)
    assert learned.pixels[0].tobytes() == decode(data, edge=EDGE, decoding=REDUCED).tobytes()


@pytest.mark.parametrize("decoding", Decoding)
def test_an_evaluation_sees_what_the_worker_sees(decoding: Decoding, tmp_path: Path) -> None:
    whole = photo(450, 340)
    data = jpeg(whole)
    seen: list[bytes] = []

    def look(image: Image.Image) -> float:
        seen.append(image.tobytes())
        return 0.5

    description = scripted_description(preprocessing={"edge": EDGE, "decode": decoding})
    parts = EvaluationParts(
        description, lambda: VlmDetector(ScriptedEngine(look), description),
        InMemoryImageStore({"s3://b/0.jpg": data}), "s3://b", lambda _fault: None,
        perturbations=("clean", "jpeg_70", "flip"),
    )  # fmt: skip
    with Journal.opened(tmp_path, {"dataset": "this"}) as journal:
        list(judge_records([record(0)], journal, parts))
    once_more = jpeg(open_image(data), quality=70)
    assert seen == [
        decode(data, edge=EDGE, decoding=decoding).tobytes(),
        decode(once_more, edge=EDGE, decoding=decoding).tobytes(),
        to_square(ImageOps.mirror(open_image(data)), edge=EDGE).tobytes(),
    ]
