"""Makes what a detector sees of a changed image, for an evaluation and for a training that must withstand changes."""

from collections.abc import Iterable

from PIL import Image

from worker.detector.description import Preprocessing
from worker.images import SizeLimits, decode, open_image, reduce_jpeg, to_square
from worker.lab.evaluation.perturbations import CLEAN, PERTURBATIONS


def squares_under(
    perturbations: Iterable[str], data: bytes, name: str, form: Preprocessing, limits: SizeLimits
) -> list[Image.Image]:
    """Returns what a detector sees of an image file under each perturbation, which changes the image in full size.

    The unchanged file is decoded as a worker decodes it, and so is a file that was compressed again (jpeg_70). After
    any other change there is no file, and the square is made from the full size. `name` decides the noise.
    Raises ImageError.
    """
    squares = []
    whole = None
    for one in perturbations:
        if one == CLEAN:
            squares.append(decode(data, edge=form.edge, fit=form.fit, decoding=form.decode, limits=limits))
            continue
        whole = whole or open_image(data, limits=limits)
        changed = PERTURBATIONS[one](whole, name)
        reduce_jpeg(changed, edge=form.edge, decoding=form.decode)
        squares.append(to_square(changed, edge=form.edge, fit=form.fit, max_pixels=limits.max_pixels))
    return squares
