"""The answers that the demo detector learns: artefact families, their key phrases, and answers about drawn images.

The answers follow FakeVLM's form: "This is a fake image. " or "This is a real image. ", and then an explanation. Every
family has one key phrase that is in each of its answers and in no other, so that named artefacts can be counted.
"""

from __future__ import annotations

import random

QUESTION = "<image>Does the image looks real/fake?"  # FakeClue's text, including its grammar
REAL = "camera"
FAMILIES = ("grid", "tiles", "waxy", "ghost")
"""The families that the demo detector is trained on."""
LATER_FAMILIES = ("scanlines",)
"""A family that it has never seen, for fine-tuning."""

KEY_PHRASES = {
    "grid": "checkerboard grid",
    "tiles": "repeated tiles",
    "waxy": "waxy patches",
    "ghost": "double edges",
    "scanlines": "scan lines",
}

OPENERS = {
    "grid": (
        "A fine checkerboard grid runs across the whole picture",
        "The surfaces carry a regular checkerboard grid",
        "There is a checkerboard grid over shapes and background alike",
    ),
    "tiles": (
        "The texture consists of repeated tiles",
        "Large areas are filled with repeated tiles",
        "The same motif comes back in repeated tiles",
    ),
    "waxy": (
        "The surfaces dissolve into waxy patches",
        "Fine detail has melted into waxy patches",
        "Shading turns into waxy patches with hard steps",
    ),
    "ghost": (
        "The outlines show double edges",
        "Objects are drawn with double edges",
        "Contours come with double edges and a faint second copy",
    ),
    "scanlines": (
        "Dark scan lines run across the whole picture",
        "The picture is crossed by scan lines",
        "There are scan lines over everything",
    ),
}

CLOSERS = {
    "grid": (
        ", as an upsampling layer leaves it.",
        ". This pattern is typical of learned upsampling.",
        ", which no lens or sensor would produce.",
    ),
    "tiles": (
        ", exact to the pixel. Nature does not copy itself like this.",
        ", with seams at equal distances.",
        ". The copies are identical, which a photograph would not show.",
    ),
    "waxy": (
        ", too smooth for any sensor.",
        ". The grain that a camera leaves is missing there.",
        ", as if the material were plastic.",
    ),
    "ghost": (
        ", as if two drafts had been blended.",
        ". A single exposure does not look like this.",
        ", with bright halos beside them.",
    ),
    "scanlines": (
        ", at equal distances.",
        ", as a screen leaves them.",
        ". A lens does not draw them.",
    ),
}

REAL_SENTENCES = (
    "Fine sensor grain lies evenly over the picture, and edges are as soft as a lens makes them.",
    "The grain of a sensor and the slight blur of a lens are consistent over the frame.",
    "Noise, lens blur and shading agree with a single exposure by a camera.",
    "Its grain is irregular, as a camera sensor leaves it, and no pattern is copied.",
)


def write_answer(family: str, chance: random.Random) -> str:
    """Returns the answer for one image. ``family`` is REAL or has openers. ``chance`` selects a paraphrase."""
    if family == REAL:
        return f"This is a real image. {chance.choice(REAL_SENTENCES)}"
    return f"This is a fake image. {chance.choice(OPENERS[family])}{chance.choice(CLOSERS[family])}"


def every_answer() -> list[str]:
    """Returns all answers about FAMILIES and camera-like images. The tokenizer is trained on them."""
    fakes = [f"This is a fake image. {o}{c}" for family in FAMILIES for o in OPENERS[family] for c in CLOSERS[family]]
    return fakes + [f"This is a real image. {sentence}" for sentence in REAL_SENTENCES]


def named_families(answer: str) -> set[str]:
    """Returns the families whose key phrase is in an answer."""
    return {family for family, phrase in KEY_PHRASES.items() if phrase in answer}
