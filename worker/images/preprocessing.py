"""Names and revisions of the ways in which an image becomes a detector's input. They are part of its identity."""

from enum import StrEnum

EDGE = 336
"""Pixels: the width and the height of the input of CLIP ViT-L/14-336."""


class Fit(StrEnum):
    """How an image that is not square becomes one."""

    CROP = "crop"  # resizes the shorter edge to `edge`, then takes the centre: as CLIP and FakeVLM do
    PAD = "pad"  # the whole image, with bars in CLIP's mean colour: as LLaVA-1.5 does
    STRETCH = "stretch"  # the whole image, without its proportions
    STRETCH_BILINEAR = (
        "stretch-bilinear"  # so, with the bilinear filter: as ViTImageProcessor does unless told otherwise
    )


class Decoding(StrEnum):
    """The size at which a file is decoded, before it becomes a square."""

    FULL = "full"
    REDUCED = "reduced"  # large JPEGs at 1/2, 1/4 or 1/8, which their format allows; all other files in full size

    def least(self, edge: int) -> int | None:
        """Returns the smallest width and height that are allowed after decoding, in pixels. None: nothing is reduced.

        It is twice the edge. So bicubic filtering still has more detail than it keeps. The pixels differ from those of
        the full size by about 0.5 of 255.
        """
        return 2 * edge if self is Decoding.REDUCED else None


PREPROCESSING_REVISIONS = {
    (Fit.CROP, Decoding.FULL): "clip-pillow-1",
    (Fit.PAD, Decoding.FULL): "pad-pillow-1",
    (Fit.STRETCH, Decoding.FULL): "stretch-pillow-1",
    (Fit.STRETCH_BILINEAR, Decoding.FULL): "stretch-bilinear-pillow-1",
    (Fit.CROP, Decoding.REDUCED): "clip-pillow-reduced-1",
    (Fit.PAD, Decoding.REDUCED): "pad-pillow-reduced-1",
    (Fit.STRETCH, Decoding.REDUCED): "stretch-pillow-reduced-1",
    (Fit.STRETCH_BILINEAR, Decoding.REDUCED): "stretch-bilinear-pillow-reduced-1",
}
"""The revision of each way. Raise it whenever decode() may give another pixel for the same bytes.

A correction of rare pictures whose pixels are wrong does not raise it: it would make every verdict and every
calibration an old one (docs/decisions/0014).
"""
