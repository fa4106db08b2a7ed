"""Gives the trainer examples one by one, in an order that depends only on the seed.

The dataset of a stage is the whole sequence of its examples, epoch after epoch. Example n does not depend on what ran
before it, so training that continues after a kill ends with the same weights.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset

from worker.detector.description import VlmDescription
from worker.errors import ConfigurationError
from worker.lab.datasets.records import Record
from worker.lab.training.recipe import Stage
from worker.lab.training.squares import Pixels, TrainingSet, classes_of, value_of

IGNORED = -100
"""The label that PyTorch's cross entropy ignores."""


class Examples(Dataset[dict[str, Any]]):
    """The pictures of a stage. `length` is in examples. Each epoch takes every record once, in an order of its own."""

    def __init__(self, data: TrainingSet, stage: Stage, length: int, seed: int, processor: Any) -> None:
        self.data, self.stage, self.length, self.seed = data, stage, length, seed
        images = processor.image_processor
        self._mean, self._deviation = np.float32(images.image_mean), np.float32(images.image_std)
        self._orders: dict[int, list[int]] = {}

    def __len__(self) -> int:
        return self.length

    def place(self, position: int) -> int:
        """Returns the number of the record at this position."""
        epoch, rest = divmod(position, len(self.data))
        if epoch not in self._orders:
            order = list(range(len(self.data)))
            self._chance("order", epoch).shuffle(order)
            self._orders = {epoch: order}
        return self._orders[epoch][rest]

    def _chance(self, purpose: str, number: int) -> random.Random:
        return random.Random(f"{self.seed} {self.stage.name} {purpose} {number}")  # noqa: S311 - no secret

    def pixel_values(self, position: int) -> torch.Tensor:
        """Returns (3, side, side) values, normalised as the model's own processor does: / 255, mean, deviation."""
        square = self.data.pixels[self.data.rows[self.place(position)]]
        square = _crop(square, self.stage.crop, self._chance("crop", position))
        values = (square.astype(np.float32) / 255 - self._mean) / self._deviation
        return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))


def _crop(square: Pixels, side: int | None, chance: random.Random) -> Pixels:
    if side is None:
        return square
    left, top = (chance.randint(0, square.shape[0] - side) for _ in range(2))
    crop = square[top : top + side, left : left + side]
    return crop[:, ::-1] if chance.random() < 0.5 else crop  # noqa: PLR2004 - a coin


class Classes(Examples):
    """Pictures with the class that the tower learns: the number of the record's value among all values."""

    def __init__(self, data: TrainingSet, stage: Stage, length: int, seed: int, processor: Any) -> None:
        super().__init__(data, stage, length, seed, processor)
        self.names = classes_of(data.records, stage.classes or "")

    def __getitem__(self, position: int) -> dict[str, Any]:
        value = value_of(self.data.records[self.place(position)], self.stage.classes or "")
        return {"pixel_values": self.pixel_values(position), "labels": self.names.index(value)}


class Answers(Examples):
    """Pictures with prompt and answer as token ids. The loss covers only the answer and its end.

    The prompt is the one that the worker will send. A record without an answer gets the detector's opening for its
    label.
    """

    def __init__(
        self,
        data: TrainingSet,
        stage: Stage,
        length: int,
        seed: int,
        processor: Any,
        description: VlmDescription,
    ) -> None:
        super().__init__(data, stage, length, seed, processor)
        self._tokenizer, self._form = processor.tokenizer, description.answer
        self._prompt = prompt_ids(processor, description, stage.crop or description.preprocessing.edge)

    def __getitem__(self, position: int) -> dict[str, Any]:
        record = self.data.records[self.place(position)]
        text = record.answer or (self._form.fake if record.is_fake else self._form.real)
        answer = [*self._tokenizer.encode(text, add_special_tokens=False), self._tokenizer.eos_token_id]
        room = self.stage.max_length
        return {
            "pixel_values": self.pixel_values(position),
            "input_ids": (self._prompt + answer)[:room],
            "labels": ([IGNORED] * len(self._prompt) + answer)[:room],
        }


def prompt_ids(processor: Any, description: VlmDescription, side: int) -> list[int]:
    """Returns the prompt as the model's processor writes it for an image of side x side, a token per visual patch."""
    ids: list[int] = processor.tokenizer(description.prompt_text)["input_ids"]
    image = processor.tokenizer.convert_tokens_to_ids(description.image_placeholder)
    place = ids.index(image)
    return [*ids[:place], *[image] * (side // processor.patch_size) ** 2, *ids[place + 1 :]]


def check_stage(stage: Stage, records: Sequence[Record], processor: Any, description: VlmDescription) -> None:
    """Raises ConfigurationError if this model or these records do not fit the stage: now, and not hours later."""
    edge = description.preprocessing.edge
    where = f"--recipe: stage {stage.name}"
    if stage.crop is not None and stage.crop > edge:
        raise ConfigurationError(f"{where}: no square of {stage.crop} pixels can be cut from one of {edge}")
    if stage.classes is not None:
        if len(classes_of(records, stage.classes)) < 2:  # noqa: PLR2004 - to tell apart
            raise ConfigurationError(
                f"{where}: the records' field {stage.classes!r} does not have two different values"
            )
    elif (prompt := len(prompt_ids(processor, description, stage.crop or edge))) >= stage.max_length:
        raise ConfigurationError(
            f"{where}: the prompt alone has {prompt} tokens; raise max_length, which is {stage.max_length}"
        )


@dataclass(frozen=True)
class Collator:
    """Makes a batch of examples. Sequences are padded on the right to the longest one."""

    pad_token_id: int

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Returns the batch's tensors: pixel_values (batch, 3, side, side), and ids, mask, labels (batch, longest)."""
        batch = {"pixel_values": torch.stack([one["pixel_values"] for one in examples])}
        if "input_ids" not in examples[0]:
            return batch | {"labels": torch.tensor([one["labels"] for one in examples])}
        longest = max(len(one["input_ids"]) for one in examples)

        def padded(name: str, filler: int) -> torch.Tensor:
            return torch.tensor([one[name] + [filler] * (longest - len(one[name])) for one in examples])

        mask = [[1] * len(one["input_ids"]) + [0] * (longest - len(one["input_ids"])) for one in examples]
        return batch | {
            "input_ids": padded("input_ids", self.pad_token_id),
            "attention_mask": torch.tensor(mask),
            "labels": padded("labels", IGNORED),
        }


class TowerClassifier(nn.Module):
    """A LLaVA's tower with a linear classifier on the mean of the features that the projector sees."""

    def __init__(self, model: Any, classes: int) -> None:
        super().__init__()
        self.tower = model.model.vision_tower
        self.layer = model.config.vision_feature_layer
        self.classifier = nn.Linear(self.tower.config.hidden_size, classes)

    def gradient_checkpointing_enable(self, **how: Any) -> None:
        """Passes the trainer's request on to the tower, as for any model of transformers."""
        self.tower.gradient_checkpointing_enable(**how)

    def forward(self, pixel_values: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Returns the loss over a batch, and its logits (batch, classes)."""
        seen = self.tower(pixel_values, output_hidden_states=True)
        logits = self.classifier(seen.hidden_states[self.layer][:, 1:].mean(1))
        return {"loss": cross_entropy(logits, labels), "logits": logits}
