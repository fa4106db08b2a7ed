"""A classifier gives the scores of transformers' own pipeline, which gets the original images."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from transformers import AutoModelForImageClassification, pipeline
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from tests.classifiers import EDGE, classifier_description, drawn, save_classifier
from worker.detector.classifier import ClassifierDetector
from worker.detector.verdicts import Judgement
from worker.images import decode
from worker.messages import Policy

IMAGES = 40
HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
SQUARE = {"height": EDGE, "width": EDGE}
WITHIN = 2e-6
"""The largest difference of a score that was seen is 3.1e-7: batches of other sizes add in another order."""


@dataclass(frozen=True)
class Case:
    """The same model, described for both. `form` is in our words, and `processor` is transformers' own.

    It is the one on Pillow. The one on torchvision, which transformers prefers, resizes with other rounding.
    """

    architecture: str
    processor: Any
    form: dict[str, Any]
    function: str = "softmax"


CASES = {
    "vit": Case(
        "vit",
        ViTImageProcessorPil(size=SQUARE, resample=2, image_mean=HALF["mean"], image_std=HALF["std"]),
        {"preprocessing": {"edge": EDGE, "fit": "stretch-bilinear"}, "input": HALF},
    ),
    "clip": Case(
        "clip",
        CLIPImageProcessorPil(size={"shortest_edge": EDGE}, crop_size=SQUARE),
        {"preprocessing": {"edge": EDGE, "fit": "crop"}},
    ),
    "siglip": Case(
        "siglip",
        SiglipImageProcessorPil(size=SQUARE, resample=3, image_mean=HALF["mean"], image_std=HALF["std"]),
        {"preprocessing": {"edge": EDGE, "fit": "stretch"}, "input": HALF},
    ),
    # As Community Forensics does it: the shorter edge is larger than the crop, and one output is P(fake).
    "one_logit": Case(
        "one_logit",
        CLIPImageProcessorPil(size={"shortest_edge": 88}, crop_size=SQUARE),
        {"preprocessing": {"edge": 88, "fit": "crop"}, "input": {"edge": EDGE, "fit": "crop"}},
        "sigmoid",
    ),
}


def png(image: Image.Image) -> bytes:
    target = io.BytesIO()
    image.save(target, "PNG")
    return target.getvalue()


@pytest.mark.parametrize("name", CASES)
def test_scores_are_those_of_the_pipeline(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    folder = save_classifier(tmp_path / name, case.architecture)
    description = classifier_description(folder, case.architecture, batch_size=16, **case.form)
    form = description.preprocessing
    squares = [decode(png(image), edge=form.edge, fit=form.fit, decoding=form.decode) for image in drawn(IMAGES, 7)]
    judged = ClassifierDetector(description, folder).judge(squares, Policy())
    ours = [one.score for one in judged if isinstance(one, Judgement) and one.score is not None]

    theirs = pipeline(
        "image-classification",
        model=AutoModelForImageClassification.from_pretrained(folder),
        image_processor=case.processor,
        function_to_apply=case.function,
    )
    found = theirs(list(drawn(IMAGES, 7)), top_k=None)
    fake = "P(fake)" if case.architecture == "one_logit" else "generated"
    expected = [next(one["score"] for one in image if one["label"] == fake) for image in found]
    assert max(expected) - min(expected) > 0.5
    difference = float(np.abs(np.subtract(ours, expected)).max())
    assert difference <= WITHIN, f"{difference:.1e}"
