"""Fills in the prompts of prompts.toml for a record: those of the annotators, and that of the aggregator."""

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field

from worker.lab.annotation.answers import Point
from worker.lab.datasets.records import Record

FILE = Path(__file__).with_name("prompts.toml")
GENERAL = "general"

Checkpoints = Annotated[dict[str, str], Field(min_length=5, max_length=6)]


class Category(BaseModel):
    """What annotators look at in images of one category: for each label, checkpoints by name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    subject: str
    fake: Checkpoints
    real: Checkpoints


class Labels(BaseModel):
    """The words for the label in a prompt."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fake: str
    real: str


class Prompts(BaseModel):
    """One revision of all prompts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    revision: str
    annotator: str
    aggregator: str
    agreement_of_many: str
    agreement_of_one: str
    labels: Labels
    categories: dict[str, Category]

    @classmethod
    def shipped(cls) -> Self:
        """Returns the prompts of prompts.toml."""
        return cls.model_validate(tomllib.loads(FILE.read_text(encoding="utf-8")))

    def knows(self, record: Record) -> bool:
        """Whether the record's category has checkpoints of its own. Other records get the general ones."""
        return record.category != GENERAL and record.category in self.categories

    def for_annotator(self, record: Record) -> str:
        """Returns the text that goes with the image."""
        category = self._category(record)
        checkpoints = category.fake if record.is_fake else category.real
        listed = "\n".join(f"- {name.replace('_', ' ')}: {look_for}" for name, look_for in checkpoints.items())
        return self._filled(self.annotator, record, checkpoints=listed)

    def for_aggregator(self, record: Record, lists: Sequence[Sequence[Point]]) -> str:
        """Returns the text, without an image, with the points of each annotator."""
        numbered = {
            f"annotator {number}": [point.model_dump() for point in points] for number, points in enumerate(lists, 1)
        }
        return self._filled(
            self.aggregator,
            record,
            count=str(len(lists)),
            lists=json.dumps(numbered, ensure_ascii=False, indent=1),
            agreement=self.agreement_of_many if len(lists) > 1 else self.agreement_of_one,
        )

    def _category(self, record: Record) -> Category:
        return self.categories[(record.category or GENERAL) if self.knows(record) else GENERAL]

    def _filled(self, template: str, record: Record, **given: str) -> str:
        label = self.labels.fake if record.is_fake else self.labels.real
        return Template(template).substitute(subject=self._category(record).subject, label=label, **given).strip()
