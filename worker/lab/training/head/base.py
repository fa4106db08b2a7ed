"""What a head begins with: the tower of a detector, or a backbone of one's own, and how it wants its images."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoImageProcessor

from worker.detector.description import (
    ClassifierDescription,
    DetectorDescription,
    Input,
    InputFit,
    Labels,
    Preprocessing,
    VlmDescription,
)
from worker.detector.loading import load_description
from worker.detector.supply import supply
from worker.detector.weights import read_json, refusal
from worker.errors import ConfigurationError
from worker.images import Fit
from worker.lab.training.recipe import HeadRecipe
from worker.settings import Settings

FAKE, REAL = "fake", "real"
"""The labels of every head."""

_BICUBIC = 3  # Pillow's number
_LABELS = Labels(fake=(FAKE,), real=(REAL,))


@dataclass(frozen=True)
class HeadBase:
    """The folder of a model with a tower, the description of its images, and `input`: what the tower gets of them."""

    folder: Path
    description: DetectorDescription
    input: Input

    def described(self, recipe: HeadRecipe, name: str) -> ClassifierDescription:
        """Returns the description of the detector that will be this tower and a head.

        A tower's terms of use hold for what is built on it, so the notice says them.
        """
        base = self.description
        licence = f" ({base.license})" if base.license else ""
        terms = f"A head on the vision tower of {base.name}, whose terms of use{licence} apply to it, too."
        return ClassifierDescription(
            name=name,
            model=".",
            preprocessing=base.preprocessing,
            labels=_LABELS,
            input=self.input,
            batch_size=recipe.batch_size,
            dtype=recipe.dtype,
            license=base.license,
            notice=f"{base.notice} {terms}" if base.notice else terms,
        )


def base_of_detector(settings: Settings) -> HeadBase:
    """Returns the base for a head on the detector that the settings name: a LLaVA, or a classifier.

    Raises ConfigurationError for a cascade, and like load_description() and supply().
    """
    description, folder = supply(load_description(settings), settings)
    if isinstance(description, ClassifierDescription):
        return HeadBase(folder, description, description.input)
    if not isinstance(description, VlmDescription):
        raise ConfigurationError(
            f"FAKESWEEP_DETECTOR: {description.name} is a {description.kind}, which has no tower of its own; "
            "give one of its stages"
        )
    processor = _processor(folder)
    return HeadBase(folder, description, Input(mean=processor["image_mean"], std=processor["image_std"]))


def base_of_backbone(settings: Settings) -> HeadBase:
    """Returns the base for a head on a backbone of one's own: the model that the settings name.

    Its preprocessor_config.json says how its images are prepared. Raises ConfigurationError if the worker cannot
    prepare images in that way, and like supply().
    """
    model = settings.model or ""
    place = Path(model).expanduser()
    located = str(place.resolve()) if place.is_dir() else model
    description = ClassifierDescription(
        name=(place.resolve().name if place.is_dir() else model)[-100:],
        model=located,
        revision=settings.revision,
        labels=_LABELS,
    )
    description, folder = supply(description, settings, inspected=False)
    if not (folder / "config.json").is_file():
        raise refusal(f"{folder} holds no config.json", "give a folder with config.json and *.safetensors, or a hub id")
    if read_json(folder / "config.json").get("model_type") == "llava":
        raise refusal(f"{folder} is a LLaVA", "give --detector, too: its description says how images are prepared")
    preprocessing, form = read_preprocessing(_processor(folder), folder)
    return HeadBase(folder, description.model_copy(update={"preprocessing": preprocessing, "input": form}), form)


def _processor(folder: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = AutoImageProcessor.from_pretrained(folder).to_dict()
    except (OSError, ValueError, KeyError, ImportError) as error:
        cause = str(error).splitlines()[0][:200]
        raise refusal(
            f"the image processor in {folder} cannot be read ({cause})", "give a folder with preprocessor_config.json"
        ) from error
    return found


def read_preprocessing(processor: dict[str, Any], folder: Path) -> tuple[Preprocessing, Input]:
    """Returns how the worker prepares images in the way that an image processor of transformers does.

    `processor` has the fields of preprocessor_config.json. Raises ConfigurationError with the first field that the
    worker cannot follow.
    """

    def refused(cause: str) -> ConfigurationError:
        return refusal(
            f"{folder / 'preprocessor_config.json'}: {cause}, which the worker cannot do",
            "change that field: the head learns from the images as you prepare them",
        )

    if not processor.get("do_resize"):
        raise refused("images are not resized")
    if processor.get("resample") != _BICUBIC:
        raise refused(f"resample is {processor.get('resample')} and not {_BICUBIC} (bicubic)")
    if not processor.get("do_rescale") or abs(processor.get("rescale_factor", 0) * 255 - 1) > 1e-6:  # noqa: PLR2004
        raise refused("values are not divided by 255")
    if processor.get("do_pad") or processor.get("crop_pct"):
        raise refused("images are padded, or cropped by a share")
    size = processor.get("size") or {}
    crop = processor.get("crop_size") if processor.get("do_center_crop") else None
    shortest = size.get("shortest_edge")
    edge = shortest or size.get("height")
    cut = crop.get("height") if crop else edge
    sides = {size.get("height"), size.get("width")} - {None}
    if not edge or not cut or len(sides) > 1 or (crop and crop.get("width") != cut) or cut > edge:
        raise refused(f"size {size} and crop_size {crop} give no square")
    if shortest and not crop:
        raise refused("the shortest edge is resized and nothing is cropped")
    normal: dict[str, Any] = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    if processor.get("do_normalize"):
        normal = {"mean": processor["image_mean"], "std": processor["image_std"]}
    form = Input(**normal) if cut == edge else Input(edge=cut, fit=InputFit.CROP, **normal)
    return Preprocessing(edge=edge, fit=Fit.CROP if shortest else Fit.STRETCH), form
