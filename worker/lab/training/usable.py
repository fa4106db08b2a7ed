"""Decides which records a training of any recipe can learn from."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from worker.detector.verdicts import Answer, Reader
from worker.errors import ConfigurationError
from worker.lab.datasets.answers import read, wanted
from worker.lab.datasets.records import Cause, Fault, Record


def agreeing(records: Sequence[Record], reader: Reader, tell: Callable[[Fault], None]) -> Iterator[Record]:
    """Leaves out records whose answer says the opposite of their label, because one of the two is wrong."""
    for record in records:
        said = read(record.answer, reader).answer if record.answer else None
        if said in {None, Answer.UNDECIDED, wanted(record)}:
            yield record
        else:
            tell(
                Fault(record.line, record.image, Cause.CONTRADICTS_LABEL, f"labelled {wanted(record)}: {record.answer}")
            )


def of_one_label(records: Sequence[Record], contents: Sequence[str | None], tell: Callable[[Fault], None]) -> list[int]:
    """Returns the rows with an image. A content with both labels is left out, because it would teach neither.

    `contents` are the SHA-256 sums of the files, and None for those that could not be read.
    """
    labels: dict[str, set[int]] = {}
    for record, content in zip(records, contents, strict=True):
        if content is not None:
            labels.setdefault(content, set()).add(record.label)
    kept: list[int] = []
    for row, (record, content) in enumerate(zip(records, contents, strict=True)):
        if content is not None and len(labels[content]) > 1:
            tell(
                Fault(record.line, record.image, Cause.CONFLICT, "another record has this content with the other label")
            )
        elif content is not None:
            kept.append(row)
    return kept


def check_enough(records: Sequence[Record]) -> None:
    """Raises ConfigurationError if the records do not have both classes."""
    fakes = sum(record.is_fake for record in records)
    if not 0 < fakes < len(records):
        raise ConfigurationError(
            f"DATASET: {fakes} fake and {len(records) - fakes} real images are left to learn from, and both are "
            "needed; add images of the missing class, or lower --hold-out"
        )


def as_json(record: Record) -> dict[str, Any]:
    """Returns the record as the dataset had it."""
    return record.model_dump(mode="json", by_alias=True, exclude={"line"}, exclude_none=True)
