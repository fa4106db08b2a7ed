"""The model folder to inspect, and the parts of it that checks read."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from worker.detector.description import ClassifierDescription, DetectorDescription, VlmDescription, vlm_only
from worker.detector.weights import Tensor, read_header, read_json, refusal, weight_files


@dataclass(frozen=True)
class ModelFolder:
    """A model folder to inspect. Each part is read once, when a check first asks for it."""

    folder: Path
    description: DetectorDescription
    engine: str
    gpu_memory_utilization: float

    @property
    def vlm(self) -> VlmDescription:
        """The description, for the checks that only vision-language models get."""
        return vlm_only(self.description, "this check")

    @property
    def classifier(self) -> ClassifierDescription:
        """The description, for the checks that only classifiers get."""
        assert isinstance(self.description, ClassifierDescription)  # noqa: S101 - for the type checker
        return self.description

    @cached_property
    def raw_config(self) -> dict[str, Any]:
        """The content of config.json. Raises ConfigurationError."""
        return read_json(self.folder / "config.json")

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """All tensors of the weights by name, read from the headers of the files. Raises ConfigurationError."""
        return {name: tensor for path in weight_files(self.folder) for name, tensor in read_header(path).items()}

    @cached_property
    def config(self) -> Any:
        """config.json as transformers understands it. Raises ConfigurationError."""
        from transformers import AutoConfig  # noqa: PLC0415 - takes seconds; cheaper checks go first

        try:
            return AutoConfig.from_pretrained(self.folder)
        except Exception as error:
            raise refusal(f"{self.folder / 'config.json'} is not valid ({line(error)})", "correct it") from error


def line(error: Exception) -> str:
    """Returns the message of a library's error on one line, for use in a refusal."""
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0][:200] if said else 'no reason given'}"
