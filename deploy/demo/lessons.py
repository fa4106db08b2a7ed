"""What train.py feeds to transformers' Trainer: arrays of the drawn images, and a module with a loss for each stage."""

from __future__ import annotations

import json
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset
from transformers import LlavaForConditionalGeneration

from deploy.demo.answers import FAMILIES, QUESTION, REAL
from deploy.demo.checkpoint import IMAGE_SIZE, crop_to_model, normalise
from deploy.demo.vocabulary import EOS, IMAGE_TOKEN, PAD_TOKEN

Bytes = np.ndarray[Any, np.dtype[np.uint8]]
CLASSES = (REAL, *FAMILIES)
IGNORED = -100  # the label that the loss skips


def read_pixels(path: Path) -> Bytes:
    """One image file as the model sees it: (336, 336, 3)."""
    with Image.open(path) as image:
        return np.asarray(crop_to_model(image))


def load_set(folder: Path) -> tuple[list[dict[str, Any]], Bytes]:
    """The records of a drawn set and its pixels (count, 336, 336, 3) as the model sees them, cached in the folder."""
    records = json.loads((folder / "records.json").read_text(encoding="utf-8"))
    cache = folder / f"pixels-{IMAGE_SIZE}.npy"
    if not cache.exists():
        with ThreadPoolExecutor() as pool:
            np.save(cache, np.stack(list(pool.map(read_pixels, [folder / record["image"] for record in records]))))
    return records, np.load(cache)


class Crops(Dataset[dict[str, Any]]):
    """Square crops of ``side`` pixels at random places, mirrored at random, with their class; for the tower."""

    def __init__(self, records: list[dict[str, Any]], pixels: Bytes, side: int) -> None:
        self.classes = [CLASSES.index(record["family"]) for record in records]
        self.pixels, self.side = pixels, side

    def __len__(self) -> int:
        return len(self.classes)

    def __getitem__(self, index: int) -> dict[str, Any]:
        left, top = (random.randint(0, IMAGE_SIZE - self.side) for _ in range(2))
        crop = self.pixels[index, top : top + self.side, left : left + self.side]
        return {
            "pixel_values": normalise(crop[:, ::-1] if random.random() < 0.5 else crop),
            "labels": self.classes[index],
        }


class Answers(Dataset[dict[str, Any]]):
    """Prompt and answer as token ids, with what the model sees: pixels, or some of the tower's cached features.

    The loss is on the answer's tokens and EOS only. ``visual_tokens`` of the 576 features are picked at random.
    """

    def __init__(
        self,
        records: list[dict[str, Any]],
        tokenizer: Tokenizer,
        *,
        pixels: Bytes | None = None,
        features: torch.Tensor | None = None,
        visual_tokens: int = (IMAGE_SIZE // 14) ** 2,
    ) -> None:
        self.pixels, self.features, self.visual_tokens = pixels, features, visual_tokens
        self.pad = tokenizer.token_to_id(PAD_TOKEN)
        self.image = tokenizer.token_to_id(IMAGE_TOKEN)
        self.prompt = tokenizer.encode(QUESTION).ids  # BOS, one <image>, the question
        answers = [record["conversations"][1]["value"] for record in records]
        self.answers = [[*tokenizer.encode(answer, add_special_tokens=False).ids, EOS] for answer in answers]
        self.longest = max(map(len, self.answers))

    def __len__(self) -> int:
        return len(self.answers)

    def __getitem__(self, index: int) -> dict[str, Any]:
        answer = self.answers[index]
        padding = self.longest - len(answer)
        prompt = [self.prompt[0], *[self.image] * self.visual_tokens, *self.prompt[2:]]
        item: dict[str, Any] = {
            "input_ids": torch.tensor(prompt + answer + [self.pad] * padding),
            "attention_mask": torch.tensor([1] * (len(prompt) + len(answer)) + [0] * padding),
            "labels": torch.tensor([IGNORED] * len(prompt) + answer + [IGNORED] * padding),
        }
        if self.features is not None:
            chosen = torch.randperm(self.features.shape[1])[: self.visual_tokens].sort().values
            item["features"] = self.features[index, chosen].float()
        elif self.pixels is not None:
            item["pixel_values"] = normalise(self.pixels[index])
        return item


class TowerLesson(nn.Module):
    """The vision tower, and a classifier on the mean of the features that LLaVA uses (layer -2, no class token)."""

    def __init__(self, model: LlavaForConditionalGeneration) -> None:
        super().__init__()
        self.tower = model.model.vision_tower
        self.classifier = nn.Linear(self.tower.config.hidden_size, len(CLASSES))

    def features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """(batch, 3, side, side) -> (batch, patches, hidden), as LLaVA hands them to the projector."""
        seen = self.tower(pixel_values, output_hidden_states=True, interpolate_pos_encoding=True)
        layer: torch.Tensor = seen.hidden_states[-2]
        return layer[:, 1:]

    def forward(self, pixel_values: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        logits = self.classifier(self.features(pixel_values).mean(1))
        return {"loss": cross_entropy(logits, labels), "logits": logits}


class ReaderLesson(nn.Module):
    """Projector and language model on cached features; the same computation as LLaVA's, without the tower."""

    def __init__(self, model: LlavaForConditionalGeneration) -> None:
        super().__init__()
        self.projector = model.model.multi_modal_projector
        self.language_model, self.lm_head = model.model.language_model, model.lm_head

    def forward(
        self, features: torch.Tensor, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        visual = features.shape[1]
        words = self.language_model.get_input_embeddings()(input_ids)
        embeds = torch.cat([words[:, :1], self.projector(features), words[:, 1 + visual :]], dim=1)
        hidden = self.language_model(inputs_embeds=embeds, attention_mask=attention_mask).last_hidden_state
        logits = self.lm_head(hidden[:, visual:-1])
        return {"loss": cross_entropy(logits.flatten(0, 1), labels[:, visual + 1 :].flatten(), ignore_index=IGNORED)}
