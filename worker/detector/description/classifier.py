"""The description of a classifier: a model that gives each of its labels a number, and no reasons."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from worker.detector.description.base import DetectorDescription, Kind, Section

_Channel = Annotated[float, Field(allow_inf_nan=False)]
_Deviation = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Device(StrEnum):
    """Where a classifier runs. `auto`: on a GPU if there is one."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class InputFit(StrEnum):
    """How the prepared square becomes the model's input, where the two differ in size."""

    RESIZE = "resize"  # the whole square, with the bicubic filter
    CROP = "crop"  # the centre of the square


class Labels(Section):
    """The model's labels that mean fake, and those that mean real: names or numbers of the model's id2label.

    A model with a single output, whose sigmoid is P(fake), has no label for real.
    """

    fake: Annotated[tuple[str | int, ...], Field(min_length=1)]
    real: tuple[str | int, ...] = ()

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if both := {str(one) for one in self.fake} & {str(one) for one in self.real}:
            raise ValueError(f"{', '.join(sorted(both))} cannot mean fake and real")
        return self


class Input(Section):
    """The model's input, made from the prepared square: `edge` x `edge` pixels, then (value / 255 - mean) / std.

    `mean` and `std` are for red, green and blue. The defaults are CLIP's (OpenAI's CLIP, `_transform`).
    """

    edge: Annotated[int, Field(ge=14, le=4096)] | None = None
    fit: InputFit = InputFit.RESIZE
    mean: tuple[_Channel, _Channel, _Channel] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[_Deviation, _Deviation, _Deviation] = (0.26862954, 0.26130258, 0.27577711)


class ClassifierDescription(DetectorDescription):
    """An image classifier of transformers (AutoModelForImageClassification). See DetectorDescription for the rest.

    `batch_size` is how many images the model takes at once: at most 16, as many as a message has. More have no effect.
    `input` says how the square becomes the model's input; its `edge` is that of `preprocessing` if it is not set.
    """

    overridable: ClassVar[Mapping[str, str | None]] = {"revision": "revision", "dtype": "dtype"}

    kind: Literal[Kind.CLASSIFIER] = Kind.CLASSIFIER
    labels: Labels
    input: Input = Input()
    batch_size: Annotated[int, Field(ge=1, le=1024)] = 16
    dtype: Literal["float16", "bfloat16", "float32"] = "float32"
    device: Device = Device.AUTO

    @model_validator(mode="after")
    def _cut_from_the_square(self) -> Self:
        if self.input.fit is InputFit.CROP and self.input_edge > self.preprocessing.edge:
            raise ValueError(f"input.edge must not be above preprocessing.edge ({self.preprocessing.edge}) for a crop")
        return self

    @property
    def input_edge(self) -> int:
        """The width and the height of the model's input, in pixels."""
        return self.input.edge or self.preprocessing.edge

    @property
    def number_format(self) -> tuple[str, str | None]:
        """See DetectorDescription."""
        return self.dtype, None

    @property
    def decisive(self) -> dict[str, Any]:
        """See DetectorDescription. Where the model runs and how many images it takes at once change nothing."""
        return {
            "kind": self.kind,
            "labels": self.labels.model_dump(mode="json"),
            "input": self.input.model_dump(mode="json") | {"edge": self.input_edge},
            "calibration": self.calibration.parameters,
        }
