"""Exports a dataset of your own decisions: FakeClue records of what people reviewed or labelled, in three parts.

reviews, labels --by content--> decided --> label? still there? --> record --> copy --> train, validation, test
"""

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

from sqlalchemy import select
from sqlmodel import col

from producers.export.copies import Copies, Entry
from producers.export.decisions import REAL, Cause, Decided, LeftOut, Report, Selection
from producers.export.labels import Label, by_content, read_labels
from producers.export.settle import decided_contents
from producers.export.tally import ExportTally
from producers.scans import find_scan
from worker.database import Database, transaction
from worker.detector.description import VlmDescription
from worker.errors import NothingToExportError
from worker.files import move_into_place
from worker.lab.datasets.splits import Shares, Split, split_of
from worker.storage import ImageStore
from worker.tables import Detector

SUMMARY, FAULTS = "export.json", "faults.jsonl"
PURPOSE = "export "
"""Makes this split independent of what a training holds out under the same seed."""
IMAGE = "<image>"
"""The image's place in the question of FakeClue's records, whatever the detector's own placeholder is."""


@dataclass(frozen=True)
class Export:
    """What to export. `description` has the question and the openings of the answers.

    With a `store`, images are copied. `report` is called with each faulty line and image, and may raise to stop.
    `advance` is called with the number of records written so far.
    """

    description: VlmDescription
    selection: Selection
    shares: Shares
    seed: int = 0
    labels: Path | None = None
    store: ImageStore | None = None
    report: Report = field(default=lambda _fault: None)
    advance: Callable[[int], object] = field(default=lambda _records: None)


def write_dataset(database: Database, wanted: Export, output: Path) -> dict[str, Any]:
    """Writes train.json, validation.json, test.json, faults.jsonl and export.json. Returns the content of export.json.

    The files are replaced when all of them are complete. Records are sorted by SHA-256. Raises NothingToExportError,
    NoSuchScanError, ConfigurationError for the labels, StorageUnavailableError, DatabaseUnavailableError.
    """
    output.mkdir(parents=True, exist_ok=True)
    tally = ExportTally()
    with tempfile.TemporaryDirectory(prefix=".fakesweep-", dir=output) as folder:
        parts = Path(folder)
        with (parts / FAULTS).open("w", encoding="utf-8") as faults:
            report = _reporting(faults, tally, wanted.report)
            # Gathered first: fetching images can take hours, and no transaction must stay open that long.
            with (parts / "gathered").open("w+", encoding="utf-8") as gathered:
                gathered.writelines(json.dumps(record) + "\n" for record in _gather(database, wanted, tally, report))
                gathered.seek(0)
                records = _with_copies(map(json.loads, gathered), output, wanted.store, report)
                _write_splits(records, parts, wanted, tally)
        if not tally.records:
            raise NothingToExportError(f"nothing to export: {tally.why}; review findings, or give --labels")
        summary = _summary(database, wanted, tally)
        (parts / SUMMARY).write_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        names = (*(f"{split}.json" for split in Split), FAULTS, SUMMARY)
        move_into_place({parts / name: output / name for name in names})
    return summary


def _reporting(file: IO[str], tally: ExportTally, report: Report) -> Report:
    def told(fault: LeftOut) -> None:
        tally.left_out[fault.cause] += 1
        file.write(json.dumps(asdict(fault), ensure_ascii=False) + "\n")
        report(fault)

    return told


def _gather(database: Database, wanted: Export, tally: ExportTally, report: Report) -> Iterator[Entry]:
    """Yields a record for each content with a label that is still where it was. Counts the others by cause."""
    with transaction(database) as session:
        # One state of all tables: rows that are written from now on belong to the next export.
        session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        for scan_id in wanted.selection.scans:
            find_scan(session, scan_id)
        labels: Mapping[str, Label] = {}
        if wanted.labels:
            labels = by_content(session, read_labels(wanted.labels, wanted.description.answer, report), report)
        fingerprints = dict(session.execute(select(col(Detector.id), col(Detector.fingerprint))).all())
        for decided in decided_contents(session, wanted.selection, labels, report):
            cause = decided.cause or (None if decided.uri else Cause.REPLACED)
            if cause is None:
                yield _record(decided, wanted.description, fingerprints[decided.detector_id])
            else:
                tally.left_out[cause] += 1


def _record(decided: Decided, description: VlmDescription, detector: str) -> Entry:
    """Returns FakeClue's fields, followed by the record's origin. The reviewers' names are left out on purpose."""
    question = description.prompt_text.replace(description.image_placeholder, IMAGE)
    opening = description.answer.real if decided.label == REAL else description.answer.fake
    answer = f"{opening} {decided.explanation}" if decided.explanation else opening
    return {
        "image": decided.uri,
        "label": decided.label,
        "cate": decided.category,
        "width": decided.width,
        "height": decided.height,
        "conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": answer}],
        "uri": decided.uri,
        "sha256": decided.sha256,
        "scan": str(decided.scan_id) if decided.scan_id else None,
        "decided_by": decided.decided_by,
        "detector": detector,
    }


def _with_copies(records: Iterable[Entry], output: Path, store: ImageStore | None, report: Report) -> Iterator[Entry]:
    if store is None:
        yield from records
        return
    for record, error in Copies(output, store).of(records):
        if error is None:
            yield record
        else:
            report(LeftOut(error.reason, error.detail, uri=record["uri"], sha256=record["sha256"]))


def _write_splits(records: Iterable[Entry], folder: Path, wanted: Export, tally: ExportTally) -> None:
    openings = {wanted.description.answer.fake, wanted.description.answer.real}
    with ExitStack() as files:
        add = {split: files.enter_context(_array(folder / f"{split}.json")) for split in Split}
        for record in records:
            split = split_of(record["sha256"], wanted.shares, wanted.seed, PURPOSE)
            add[split](record)
            tally.take(split, record, explained=record["conversations"][1]["value"] not in openings)
            wanted.advance(tally.records)


@contextmanager
def _array(path: Path) -> Iterator[Callable[[Entry], None]]:
    """Writes a JSON array record by record, one per line."""
    with path.open("w", encoding="utf-8") as file:
        before = "[\n"

        def add(record: Entry) -> None:
            nonlocal before
            file.write(before + json.dumps(record, ensure_ascii=False))
            before = ",\n"

        yield add
        file.write("[]\n" if before == "[\n" else "\n]\n")


def _summary(database: Database, wanted: Export, tally: ExportTally) -> dict[str, Any]:
    with transaction(database) as session:
        query = select(Detector).where(col(Detector.fingerprint).in_(tally.detectors)).order_by(col(Detector.id))
        detectors = [
            {name: getattr(one, name) for name in ("name", "model", "revision", "prompt_revision", "fingerprint")}
            | {"records": tally.detectors[one.fingerprint]}
            for one in session.execute(query).scalars()
        ]
    return {
        "exported_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "release": version("fakesweep"),
        "seed": wanted.seed,
        "shares": wanted.shares.model_dump(),
        "scans": sorted(map(str, wanted.selection.scans)),
        "since": wanted.selection.since.isoformat() if wanted.selection.since else None,
        "labels": wanted.labels.name if wanted.labels else None,
        "images": wanted.store is not None,
        "written_for": wanted.description.name,
        "detectors": detectors,
        **tally.counts(),
    }
