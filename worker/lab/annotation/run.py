"""Turns a dataset into a FakeClue JSON with new explanations. Beside it: the journal, the costs and the faults."""

import json
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worker.errors import AnnotationStoppedError, ConfigurationError
from worker.files import replacing
from worker.lab.annotation.costs import in_words
from worker.lab.annotation.pipeline import Annotated, AnnotationParts, annotate
from worker.lab.datasets.faults import write_faults
from worker.lab.datasets.records import Fault, Record

Tell = Callable[[int, int, str], object]


@dataclass(frozen=True)
class Files:
    """The files at --output FILE.json and beside it."""

    output: Path

    @classmethod
    def at(cls, output: Path, dataset: Path) -> "Files":
        """Returns the files. Raises ConfigurationError if the place cannot be written, or is the dataset itself."""
        if output.suffix != ".json":
            raise ConfigurationError(f"--output: give a file that ends in .json, not {output}")
        if not output.parent.is_dir():
            raise ConfigurationError(f"--output: there is no folder {output.parent}")
        if output.exists() and output.samefile(dataset):
            raise ConfigurationError("--output: this is the dataset itself; give another file")
        return cls(output)

    @property
    def journal(self) -> Path:
        """Every paid answer."""
        return self.output.with_suffix(".journal.jsonl")

    @property
    def costs(self) -> Path:
        """Tokens and dollars, by model and in total."""
        return self.output.with_suffix(".costs.json")

    @property
    def faults(self) -> Path:
        """Records without an explanation, and the reasons."""
        return self.output.with_suffix(".faults.jsonl")


@dataclass
class AnnotationResult:
    """How many records have an explanation, and how many do not."""

    annotated: list[Annotated] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    general: int = 0
    """Records whose category is unknown or missing. They get the general checkpoints."""

    @property
    def done(self) -> int:
        """How many records are decided."""
        return len(self.annotated) + len(self.faults)

    def summary(self) -> dict[str, Any]:
        """Returns the figures."""
        causes = Counter(str(fault.cause) for fault in self.faults)
        return {
            "records": self.done,
            "annotated": len(self.annotated),
            "faults": dict(sorted(causes.items())),
            "general_prompt": self.general,
        }


def annotate_dataset(
    records: Sequence[Record],
    faults: Sequence[Fault],
    parts: AnnotationParts,
    files: Files,
    *,
    strict: bool,
    warn: Callable[[str], object],
    tell: Tell,
) -> AnnotationResult:
    """Annotates the records that are not in the journal yet, then writes the output as a whole.

    Costs are written after every record, and faults when the run ends in any way. `warn` is called with each fault, and
    `tell` with the progress: records done, records in all, costs in words.
    Raises ConfigurationError, also for a fault under `strict`. Raises AnnotationStoppedError at a limit, and if nothing
    could be annotated.
    """
    outcome = AnnotationResult(faults=[], general=sum(not parts.prompts.knows(record) for record in records))
    for answer in parts.journal.answers():
        parts.costs.add(answer)
    try:
        with closing(_all(records, faults, parts)) as results:
            for result in results:
                _take(result, outcome, strict=strict, warn=warn)
                costs = _write_costs(parts, files)
                tell(outcome.done, len(records) + len(faults), in_words(costs))
    finally:
        _write_costs(parts, files)
        write_faults(outcome.faults, files.faults)
    if not outcome.annotated:
        raise AnnotationStoppedError(f"nothing was annotated: {outcome.summary()['faults']}; see {files.faults}")
    with replacing(files.output) as file:
        file.write(json.dumps([_record(one, parts) for one in outcome.annotated], indent=1) + "\n")
    return outcome


def _all(records: Sequence[Record], faults: Sequence[Fault], parts: AnnotationParts) -> Generator[Annotated | Fault]:
    # The dataset's own faults come first, so that --strict fails before anything is paid for.
    yield from faults
    with closing(annotate(records, parts)) as results:
        yield from results


def _take(result: Annotated | Fault, outcome: AnnotationResult, *, strict: bool, warn: Callable[[str], object]) -> None:
    if isinstance(result, Annotated):
        outcome.annotated.append(result)
        return
    outcome.faults.append(result)
    if strict:
        raise ConfigurationError(f"--strict: {result}")
    warn(str(result))


def _record(one: Annotated, parts: AnnotationParts) -> dict[str, Any]:
    """Returns the record in FakeClue's form: all its fields, with a new conversation."""
    asked = one.record.question or parts.description.prompt_text
    return one.record.model_dump(exclude={"line", "conversations"}, exclude_unset=True) | {
        "conversations": [{"from": "human", "value": asked}, {"from": "gpt", "value": one.answer}]
    }


def _write_costs(parts: AnnotationParts, files: Files) -> dict[str, Any]:
    costs = parts.costs.summary()
    with replacing(files.costs) as file:
        file.write(json.dumps(costs, indent=1) + "\n")
    return costs
