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

_BILINEAR, _BICUBIC = 2, 3  # Pillow's numbers
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

    The language model of a LLaVA is not inspected: it is never loaded, so neither the memory nor the engine for it is
    needed. The checksums are compared, and the Tower checks the weights that it reads. Raises ConfigurationError for a
    cascade, and like load_description() and supply().
    """
    wanted = load_description(settings)
    if not isinstance(wanted, ClassifierDescription | VlmDescription):
        raise ConfigurationError(
            f"FAKESWEEP_DETECTOR: {wanted.name} is a {wanted.kind}, which has no tower of its own; "
            "give one of its stages"
        )
    description, folder = supply(wanted, settings, inspected=isinstance(wanted, ClassifierDescription))
    if isinstance(description, ClassifierDescription):
        return HeadBase(folder, description, description.input)
    _check_config(folder)
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
    _check_config(folder)
    if read_json(folder / "config.json").get("model_type") == "llava":
        raise refusal(f"{folder} is a LLaVA", "give --detector, too: its description says how images are prepared")
    preprocessing, form = read_preprocessing(_processor(folder), folder)
    return HeadBase(folder, description.model_copy(update={"preprocessing": preprocessing, "input": form}), form)


def _check_config(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise refusal(f"{folder} holds no config.json", "give a folder with config.json and *.safetensors, or a hub id")


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
    try:
        _check_values(processor)
        edge, cut, fit = _squares(processor)
    except ValueError as error:
        raise refusal(
            f"{folder / 'preprocessor_config.json'}: {error}, which the worker cannot do",
            "change that field: the head learns from the images as you prepare them",
        ) from None
    normal: dict[str, Any] = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    if processor.get("do_normalize"):
        normal = {"mean": processor["image_mean"], "std": processor["image_std"]}
    form = Input(**normal) if cut == edge else Input(edge=cut, fit=InputFit.CROP, **normal)
    return Preprocessing(edge=edge, fit=fit), form


def _check_values(processor: dict[str, Any]) -> None:
    """Raises ValueError if images are not resized, or if other values than value / 255 are normalised."""
    if not processor.get("do_resize"):
        raise ValueError("images are not resized")
    if not processor.get("do_rescale") or abs(processor.get("rescale_factor", 0) * 255 - 1) > 1e-6:  # noqa: PLR2004
        raise ValueError("values are not divided by 255")
    if processor.get("do_pad") or processor.get("crop_pct"):
        raise ValueError("images are padded, or cropped by a share")


def _squares(processor: dict[str, Any]) -> tuple[int, int, Fit]:
    """Returns the edge of the prepared square, the edge that is cut out of its centre, and how the square is made.

    Raises ValueError if the worker makes no such squares.
    """
    size = processor.get("size") or {}
    crop = processor.get("crop_size") if processor.get("do_center_crop") else None
    shortest = size.get("shortest_edge")
    edge = shortest or size.get("height")
    cut = crop.get("height") if crop else edge
    sides = {size.get("height"), size.get("width")} - {None}
    if not edge or not cut or len(sides) > 1 or (crop and crop.get("width") != cut) or cut > edge:
        raise ValueError(f"size {size} and crop_size {crop} give no square")
    if shortest and not crop:
        raise ValueError("the shortest edge is resized and nothing is cropped")
    fits = {_BICUBIC: Fit.CROP} if shortest else {_BICUBIC: Fit.STRETCH, _BILINEAR: Fit.STRETCH_BILINEAR}
    resample = processor.get("resample")
    if resample not in fits:
        named = f"{_BICUBIC} (bicubic)" if shortest else f"{_BICUBIC} (bicubic) or {_BILINEAR} (bilinear)"
        raise ValueError(f"resample is {resample} and not {named}")
    return edge, cut, fits[resample]
