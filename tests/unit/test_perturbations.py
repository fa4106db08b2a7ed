import io

import numpy as np
import pytest
from PIL import Image

from worker.lab.evaluation.perturbations import CLEAN, PAPER, PERTURBATIONS


def photo(width: int = 90, height: int = 60) -> Image.Image:
    """Returns an image with edges and gradients. No level is near 0 or 255."""
    across, down = np.meshgrid(np.linspace(60, 190, width), np.linspace(-30, 30, height))
    levels = across + down + 20 * ((across.astype(int) // 10) % 2)
    return Image.fromarray(np.stack([levels, levels + 5, 250 - levels], axis=-1).round().astype(np.uint8))


def changed(name: str, image: Image.Image, key: str = "a.png") -> np.ndarray:
    made = PERTURBATIONS[name](image, key)
    assert made.mode == "RGB"
    return np.asarray(made).astype(int)


def test_the_papers_table_has_a_row_for_each_perturbation() -> None:
    assert list(PAPER) == list(PERTURBATIONS)
    assert len(PERTURBATIONS) == 13
    assert PAPER[CLEAN] == (98.6, 98.1)


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_all_except_clean_change_a_copy_of_the_image(name: str) -> None:
    image = photo()
    before = image.tobytes()
    made = PERTURBATIONS[name](image, "a.png")
    assert (made.size == image.size and made.tobytes() == before) == (name == CLEAN)
    assert image.tobytes() == before
    PERTURBATIONS[name](Image.new("RGB", (1, 1)), "tiny.png")


def test_the_sizes_of_resized_and_rotated_images() -> None:
    assert PERTURBATIONS["resize_0.5"](photo(), "a").size == (45, 30)
    assert PERTURBATIONS["resize_0.75"](photo(), "a").size == (68, 45)
    assert PERTURBATIONS["rotate_15"](photo(), "a").size == (90, 60)


@pytest.mark.parametrize("deviation", [5, 10])
def test_noise_has_its_deviation_and_is_repeatable(deviation: int) -> None:
    name, image = f"gaussian_noise_{deviation}", Image.new("RGB", (300, 300), (128, 128, 128))
    noise = changed(name, image) - 128
    assert noise.std() == pytest.approx(deviation, rel=0.02)
    assert abs(noise.mean()) < 0.1
    assert (changed(name, image) - 128 == noise).all()
    assert (changed(name, image, "b.png") - 128 != noise).any()


@pytest.mark.parametrize("quality", [70, 80])
def test_jpeg(quality: int) -> None:
    file = io.BytesIO()
    photo().save(file, "JPEG", quality=quality)
    assert (changed(f"jpeg_{quality}", photo()) == np.asarray(Image.open(file))).all()


def test_the_effects_of_flip_contrast_blur_and_sharpen() -> None:
    plain = np.asarray(photo()).astype(int)
    assert (changed("flip", photo()) == plain[:, ::-1]).all()
    assert changed("contrast_0.7", photo()).std() < plain.std() < changed("contrast_1.3", photo()).std()

    def edges(levels: np.ndarray) -> float:
        return float(np.abs(np.diff(levels, axis=1)).mean())

    assert edges(changed("blur_3", photo())) < edges(plain) < edges(changed("sharpen", photo()))


def test_the_corners_of_a_rotated_image_are_black() -> None:
    made = changed("rotate_15", Image.new("RGB", (90, 60), "white"))
    assert made[0, 0].tolist() == [0, 0, 0]
    assert made[30, 45].tolist() == [255, 255, 255]
