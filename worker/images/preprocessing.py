"""How a file's pixels become what a detector sees: names and revisions, which are part of a detector's identity."""

from enum import StrEnum

EDGE = 336
"""Pixels. CLIP ViT-L/14-336's input."""


class Fit(StrEnum):
    """How an image that is not square becomes one."""

    CROP = "crop"  # the shortest edge to `edge`, then the centre: CLIP's way, and FakeVLM's
    PAD = "pad"  # the whole image, with bars in CLIP's mean colour: LLaVA-1.5's own way
    STRETCH = "stretch"  # the whole image, its proportions lost


class Decoding(StrEnum):
    """The size in which a file is decoded, before it becomes a square."""

    FULL = "full"
    REDUCED = "reduced"  # a large JPEG at 1/2, 1/4 or 1/8, which its format allows; every other file in full

    def least(self, edge: int) -> int | None:
        """The smallest width and height that are allowed after decoding, in pixels. None: nothing is reduced.

        Twice the edge: bicubic filtering then still works on more detail than it keeps, and pixels differ from those of
        the full size by about 0.5 of 255.
        """
        return 2 * edge if self is Decoding.REDUCED else None


PREPROCESSING_REVISIONS = {
    (Fit.CROP, Decoding.FULL): "clip-pillow-1",
    (Fit.PAD, Decoding.FULL): "pad-pillow-1",
    (Fit.STRETCH, Decoding.FULL): "stretch-pillow-1",
    (Fit.CROP, Decoding.REDUCED): "clip-pillow-reduced-1",
    (Fit.PAD, Decoding.REDUCED): "pad-pillow-reduced-1",
    (Fit.STRETCH, Decoding.REDUCED): "stretch-pillow-reduced-1",
}
"""Part of a detector's identity: raise one whenever decode() may give another pixel for the same bytes.

They were not raised when rare greys were put right (grey TIFFs that are inverted, signed, or of 12 or 32 bits): only
pictures that were wrong changed, and a new revision would have made every verdict and every calibration an old one.
"""
