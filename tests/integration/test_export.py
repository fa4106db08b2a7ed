"""A dataset of decisions. The real path judges, Postgres and S3 are real, and reviews are stored as rows."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import boto3
import pytest
from PIL import Image
from sqlalchemy import insert, text

from producers import retention, reviews
from producers.export.dataset import PURPOSE, Export, write_dataset
from producers.export.decisions import LeftOut, Selection
from tests.integration.test_scans import Archive, png
from tests.processes import fakesweep
from worker.database import Database, transaction
from worker.errors import (
    ConfigurationError,
    ImageError,
    NoSuchScanError,
    NothingToExportError,
    Reason,
    StorageUnavailableError,
)
from worker.lab.datasets.reading import read_dataset
from worker.lab.datasets.records import Record
from worker.lab.datasets.splits import Shares, Split, split_of
from worker.tables import Review, StoredVerdict
from worker.testing import InMemoryImageStore, ScriptedEngine, scripted_description

FAKE, REAL, UNCERTAIN = 250, 5, 128
"""Grey levels, named after the verdict of the scripted detector."""
QUESTION = "<image>Does the image looks real/fake?"
REASONS = "The picture is brighter than a camera makes it."
START = datetime(2026, 7, 1, tzinfo=UTC)


@dataclass
class Desk:
    """Where images are judged and reviewed, and datasets are made."""

    archive: Archive
    output: Path
    bucket: str = "b"
    reviews: int = 0
    faults: list[LeftOut] = field(default_factory=list)

    @property
    def database(self) -> Database:
        return self.archive.database

    def uri(self, name: str) -> str:
        return f"s3://{self.bucket}/{name}"

    def put(self, **levels: int) -> None:
        """Adds images by name, each with its own content."""
        for name, level in levels.items():
            self.archive.images[self.uri(name)] = png(level, len(self.archive.images))

    def content(self, name: str) -> bytes:
        content = self.archive.images[self.uri(name)]
        assert isinstance(content, bytes)
        return content

    def sha256(self, name: str) -> str:
        return hashlib.sha256(self.content(name)).hexdigest()

    def sweep(self, **options: Any) -> UUID:
        return UUID(self.archive.sweep(**options)["scan"])

    def review(self, scan: UUID, name: str, statement: str, reviewer: str = "r1", **columns: Any) -> None:
        """Stores a review of a finding's content, with a later time than all reviews before."""
        self.reviews += 1
        reviews.add_reviewer(self.database, reviewer)
        row = {
            "scan_id": scan, "uri": self.uri(name), "statement": statement, "reviewer": reviewer,
            "created_at": START + timedelta(minutes=self.reviews),
        }  # fmt: skip
        with self.database.begin() as connection:
            connection.execute(insert(Review).values(**(row | columns)))

    def export(self, output: Path | None = None, **wanted: Any) -> dict[str, Any]:
        given = Export(scripted_description(), Selection(), Shares(), report=self.faults.append)
        return write_dataset(self.database, replace(given, **wanted), output or self.output)

    def records(self) -> dict[str, Record]:
        """The records that a reader of datasets finds, by uri. None may be a fault."""
        found = [one for split in Split for one in read_dataset(self.output / f"{split}.json")]
        assert all(isinstance(one, Record) for one in found), found
        return {extra(one)["uri"]: one for one in found if isinstance(one, Record)}

    def labels(self) -> dict[str, int]:
        return {uri.removeprefix(self.uri("")): record.label for uri, record in self.records().items()}

    def label_file(self, *lines: Mapping[str, Any]) -> Path:
        path = self.output.with_suffix(".jsonl")
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return path


def extra(record: Record) -> dict[str, Any]:
    return record.model_extra or {}


@pytest.fixture
def desk(database: Database, tmp_path: Path) -> Desk:
    return Desk(Archive(database), tmp_path / "dataset")


def test_a_decision_becomes_a_record_of_fakeclue(desk: Desk) -> None:
    desk.put(a=FAKE)
    scan = desk.sweep()
    desk.review(scan, "a", "fake", note="seen on her phone", reason_code="face")
    summary = desk.export(shares=Shares(train=1, validation=0, test=0))
    (written,) = json.loads((desk.output / "train.json").read_text())
    assert written == {
        "image": "s3://b/a",
        "label": 0,
        "cate": None,
        "width": 20,
        "height": 20,
        "conversations": [
            {"from": "human", "value": QUESTION},
            {"from": "gpt", "value": f"This is a fake image. {REASONS}"},
        ],
        "uri": "s3://b/a",
        "sha256": desk.sha256("a"),
        "scan": str(scan),
        "decided_by": "review",
        "detector": scripted_description().fingerprint,
    }
    assert json.loads((desk.output / "test.json").read_text()) == []
    assert summary == json.loads((desk.output / "export.json").read_text())
    assert summary["splits"]["train"] == {"fake": 1, "real": 0, "explained": 1}
    assert (summary["records"], summary["explained"]) == (1, 1)
    (detector,) = summary["detectors"]
    assert (detector["name"], detector["fingerprint"]) == ("scripted", scripted_description().fingerprint)
    everything = "".join(path.read_text() for path in desk.output.iterdir())
    assert "r1" not in everything.replace(str(scan), "")
    assert "her phone" not in everything


def test_the_label_is_what_reviews_state_whatever_the_verdict(desk: Desk) -> None:
    desk.put(fake=FAKE, flagged=FAKE, real=REAL, missed=REAL, lost=REAL, unsure=UNCERTAIN, sure=UNCERTAIN, idle=FAKE)
    desk.archive.images[desk.uri("text")] = b"no image"
    scan = desk.sweep()
    for name, statement in {
        "fake": "fake", "flagged": "real", "real": "real", "missed": "fake", "lost": "cannot_tell",
        "unsure": "fake", "sure": "real",
    }.items():  # fmt: skip
        desk.review(scan, name, statement)
    summary = desk.export()
    assert desk.labels() == {"fake": 0, "flagged": 1, "real": 1, "missed": 0, "unsure": 0, "sure": 1}
    assert summary["left_out"] == {"cannot_tell": 1}
    answers = {uri.removeprefix("s3://b/"): record.answer for uri, record in desk.records().items()}
    assert answers == {
        "fake": f"This is a fake image. {REASONS}",
        "flagged": "This is a real image.",
        "real": "This is a real image.",
        "missed": "This is a fake image.",
        "unsure": f"This is a fake image. {REASONS}",
        "sure": "This is a real image.",
    }
    assert summary["explained"] == 2
    assert desk.faults == []


def test_the_newest_decision_of_a_reviewer_counts_across_scans(desk: Desk) -> None:
    desk.put(a=FAKE, b=FAKE, c=FAKE)
    first, second = desk.sweep(), desk.sweep()
    desk.review(first, "a", "fake")
    desk.review(second, "a", "real")
    desk.review(first, "b", "real")
    desk.review(first, "b", "fake")
    desk.review(second, "c", "real", created_at=START + timedelta(days=1))
    desk.review(first, "c", "fake")
    desk.export()
    assert desk.labels() == {"a": 1, "b": 0, "c": 1}
    desk.review(first, "a", "cannot_tell")
    assert desk.export()["left_out"] == {"cannot_tell": 1}
    assert desk.labels() == {"b": 0, "c": 1}


def test_reviewers_who_disagree_leave_a_content_out_until_a_third_decides(desk: Desk) -> None:
    desk.put(a=FAKE, b=FAKE, c=FAKE)
    desk.archive.images[desk.uri("twin")] = desk.archive.images[desk.uri("c")]
    scan = desk.sweep()
    desk.review(scan, "a", "fake", "r1")
    desk.review(scan, "a", "real", "r2")
    desk.review(scan, "b", "fake", "r1")
    desk.review(scan, "b", "cannot_tell", "r2")
    desk.review(scan, "c", "real")
    desk.review(scan, "twin", "fake")
    assert desk.export()["left_out"] == {"conflict": 1}
    assert desk.labels() == {"b": 0, "twin": 0}, "'cannot tell' contradicts nobody, and one content has one label"
    desk.review(scan, "a", "fake", "r3")
    assert desk.export()["left_out"] == {}
    assert desk.labels() == {"a": 0, "b": 0, "twin": 0}, "one content is one record, at the uri reviewed last"


def test_only_explanations_that_fit_the_label_are_exported(desk: Desk) -> None:
    cases: dict[str, dict[str, Any]] = {
        "good": {}, "contradicts": {"contradicts": True}, "cut": {"cut_off": True}, "silent": {"explanation": None},
        "other": {"answer": "real"}, "undecided": {"answer": "undecided"},
    }  # fmt: skip
    desk.put(**dict.fromkeys(cases, FAKE))
    scan = desk.sweep()
    verdicts: dict[str, int | None] = {}
    with transaction(desk.database) as session:
        for name, changes in cases.items():
            row: dict[str, Any] = {
                "sha256": desk.sha256(name), "detector_id": 1, "uri": desk.uri(name), "width": 9, "height": 8,
                "explain": "all", "answer": "fake", "score": 0.9, "completion": "", "explanation": "Its nose melts.",
                "prompt_tokens": 1, "completion_tokens": 1, "latency_ms": 1,
            }  # fmt: skip
            verdict = StoredVerdict(**(row | changes))
            session.add(verdict)
            session.flush()
            verdicts[name] = verdict.id
    for name, verdict_id in verdicts.items():
        desk.review(scan, name, "fake", verdict_id=verdict_id)
    summary = desk.export()
    answers = {uri.removeprefix("s3://b/"): record.answer for uri, record in desk.records().items()}
    assert answers == dict.fromkeys(cases, "This is a fake image.") | {"good": "This is a fake image. Its nose melts."}
    assert (summary["records"], summary["explained"]) == (6, 1)
    assert {(record.width, record.height) for record in desk.records().values()} == {(9, 8)}


def test_reviews_outlive_the_findings_of_their_scan(desk: Desk) -> None:
    desk.put(a=FAKE, b=REAL)
    scan = desk.sweep()
    desk.review(scan, "a", "fake")
    desk.review(scan, "b", "fake")
    retention.drop_scan(desk.database, scan)
    desk.export()
    assert desk.labels() == {"a": 0, "b": 0}


def test_old_decisions_that_state_nothing_are_left_out(desk: Desk) -> None:
    """Migration 0006 leaves such decisions on uncertain verdicts, and on images that could not be fetched."""
    desk.put(unsure=UNCERTAIN, known=FAKE)
    scan = desk.sweep()
    desk.review(scan, "known", "fake")
    old = {"scan_id": scan, "decision": "confirmed", "kind": "first", "reviewer": "r1"}
    unsure = {"uri": desk.uri("unsure"), "sha256": desk.sha256("unsure"), "verdict": "uncertain"}
    with desk.database.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(insert(Review).values(**old, **unsure))
        connection.execute(insert(Review).values(**old, uri=desk.uri("text")))
    assert desk.export()["left_out"] == {"no_verdict": 1, "uncertain_verdict": 1}
    assert desk.labels() == {"known": 0}


def test_a_replaced_content_is_left_out_unless_it_is_at_another_uri(desk: Desk) -> None:
    desk.put(a=FAKE, b=FAKE, c=FAKE)
    desk.archive.images[desk.uri("copy")] = desk.archive.images[desk.uri("b")]
    scan = desk.sweep()
    for name in ("a", "copy", "b", "c"):
        desk.review(scan, name, "fake")
    desk.put(a=REAL, b=REAL)
    again = desk.sweep()
    desk.review(again, "a", "real")
    summary = desk.export()
    assert desk.labels() == {"a": 1, "copy": 0, "c": 0}
    assert summary["left_out"] == {"replaced": 1}


def test_scans_and_dates_choose_contents_not_decisions(desk: Desk) -> None:
    desk.put(a=FAKE, b=FAKE)
    first, second = desk.sweep(), desk.sweep()
    desk.review(first, "a", "fake")
    desk.review(second, "b", "fake")
    desk.review(second, "a", "real", created_at=START + timedelta(days=3))
    desk.export(selection=Selection(scans=frozenset({first})))
    assert desk.labels() == {"a": 1}, "although its newest review is from another scan"
    desk.export(selection=Selection(since=START + timedelta(days=3)))
    assert desk.labels() == {"a": 1}
    desk.export(selection=Selection(frozenset({second}), START))
    assert desk.labels() == {"a": 1, "b": 0}
    with pytest.raises(NothingToExportError, match="nothing is reviewed or labelled"):
        desk.export(selection=Selection(frozenset({first}), START + timedelta(days=3)))
    with pytest.raises(NoSuchScanError):
        desk.export(selection=Selection(scans=frozenset({uuid4()})))
    assert desk.labels() == {"a": 1, "b": 0}, "a failed export leaves the previous one as it was"


def test_own_labels(desk: Desk) -> None:
    desk.put(a=FAKE, b=REAL, c=FAKE, d=FAKE, e=FAKE, f=FAKE)
    scan = desk.sweep()
    desk.review(scan, "c", "fake")
    desk.review(scan, "d", "fake")
    desk.review(scan, "e", "cannot_tell")
    labels = desk.label_file(
        {"uri": "s3://b/a", "label": "fake", "category": "human"},
        {"sha256": desk.sha256("b"), "label": 0, "explanation": "This is a fake image. Its grid shows."},
        {"uri": "s3://b/c", "label": "fake", "category": "doc", "explanation": "The letters flow."},
        {"uri": "s3://b/d", "label": "real", "category": "doc", "explanation": "Its noise is a sensor's."},
        {"uri": "s3://b/e", "label": "real"},
        {"uri": "s3://b/nowhere", "label": "real"},
        {"sha256": "00" * 32, "label": "real"},
        {"uri": "s3://b/a", "label": "fake"},
        {"uri": "s3://b/f", "label": "fake"},
        {"sha256": desk.sha256("f"), "label": "real"},
        {"uri": "s3://b/a"},
    )  # fmt: skip
    summary = desk.export(labels=labels)
    assert desk.labels() == {"a": 0, "b": 0, "c": 0, "d": 0, "e": 1}
    assert [(str(fault.cause), fault.line) for fault in desk.faults] == [
        ("bad_line", 11),
        ("unknown_image", 6),
        ("duplicate", 8),
        ("contradicting_labels", 10),
        ("unknown_image", 7),
        ("overruled_label", 4),
    ]
    assert summary["left_out"] == {
        "bad_line": 1, "contradicting_labels": 1, "duplicate": 1, "overruled_label": 1, "unknown_image": 2,
    }  # fmt: skip
    assert summary["decided_by"] == {"review": 2, "label": 3}
    lines = [json.loads(line) for line in (desk.output / "faults.jsonl").read_text().splitlines()]
    assert [(line["cause"], line["line"]) for line in lines] == [(str(one.cause), one.line) for one in desk.faults]
    records = desk.records()
    assert records["s3://b/a"].answer == f"This is a fake image. {REASONS}"
    assert records["s3://b/b"].answer == "This is a fake image. Its grid shows."
    assert records["s3://b/c"].answer == "This is a fake image. The letters flow."
    assert records["s3://b/d"].answer == f"This is a fake image. {REASONS}", (
        "a text for the other label is not exported"
    )
    assert {uri: record.category for uri, record in records.items() if record.category} == {
        "s3://b/a": "human", "s3://b/c": "doc", "s3://b/d": "doc",
    }  # fmt: skip
    assert extra(records["s3://b/e"])["scan"] is None


def test_scans_do_not_limit_labels_and_reviews_still_overrule_them(desk: Desk) -> None:
    desk.put(a=FAKE, b=FAKE, c=FAKE)
    first, second = desk.sweep(), desk.sweep()
    desk.review(first, "a", "fake")
    desk.review(second, "b", "real")
    labels = desk.label_file({"uri": "s3://b/b", "label": 0}, {"uri": "s3://b/c", "label": 0})
    desk.export(labels=labels, selection=Selection(scans=frozenset({first})))
    assert desk.labels() == {"a": 0, "b": 1, "c": 0}
    assert [str(fault.cause) for fault in desk.faults] == ["overruled_label"]


def test_a_label_by_uri_means_the_content_that_is_there_now(desk: Desk) -> None:
    desk.put(a=FAKE)
    old = desk.sha256("a")
    desk.sweep()
    desk.put(a=REAL)
    desk.sweep()
    desk.export(labels=desk.label_file({"uri": "s3://b/a", "label": 1}))
    assert extra(desk.records()["s3://b/a"])["sha256"] == desk.sha256("a")
    with pytest.raises(NothingToExportError, match="replaced 1"):
        desk.export(labels=desk.label_file({"uri": "s3://b/a", "sha256": old, "label": 1}))


def many(desk: Desk, count: int, start: int = 0) -> None:
    desk.archive.fill(count, start)
    scan = desk.sweep()
    for number in range(start, start + count):
        if number % 3 != 2:
            desk.review(scan, f"{number:05d}.png", "real" if number % 5 == 0 else "fake")


def test_the_same_data_makes_the_same_bytes_and_more_data_moves_no_record(desk: Desk, tmp_path: Path) -> None:
    many(desk, 60)
    shares = Shares(train=0.5, validation=0.25, test=0.25)
    first = desk.export(shares=shares, seed=3)
    names = [*(f"{split}.json" for split in Split), "faults.jsonl"]
    before = {name: (desk.output / name).read_bytes() for name in names}
    second = desk.export(shares=shares, seed=3, output=tmp_path / "again")
    assert {name: (tmp_path / "again" / name).read_bytes() for name in names} == before
    assert first | {"exported_at": None} == second | {"exported_at": None}
    assert sorted(path.name for path in desk.output.iterdir()) == sorted([*names, "export.json"])
    held_out = json.loads(before["test.json"])
    assert [one["sha256"] for one in held_out] == sorted(one["sha256"] for one in held_out)
    assert all(split_of(one["sha256"], shares, 3, PURPOSE) == "test" for one in held_out)
    many(desk, 40, 60)
    grown = desk.export(shares=shares, seed=3)
    assert grown["records"] > first["records"]
    for split in Split:
        after = json.loads((desk.output / f"{split}.json").read_text())
        counts = grown["splits"][split]
        assert (counts["fake"], counts["real"]) == tuple(
            sum(one["label"] == label for one in after) for label in (0, 1)
        )
        for record in json.loads(before[f"{split}.json"]):
            assert record in after


def test_questions_and_first_sentences_are_those_of_the_detector(desk: Desk) -> None:
    desk.put(a=FAKE, b=REAL)
    scan = desk.sweep()
    desk.review(scan, "a", "fake")
    desk.review(scan, "b", "real")
    other = scripted_description(
        prompts={"official-raw": "USER: [IMG] Made by a machine?"},
        image_placeholder="[IMG]",
        answer={"fake": "Verdict: machine.", "real": "Verdict: camera.", "fake_word": "machine", "real_word": "camera"},
    )
    desk.export(description=other)
    assert {record.question for record in desk.records().values()} == {"USER: <image> Made by a machine?"}
    assert {record.answer for record in desk.records().values()} == {f"Verdict: machine. {REASONS}", "Verdict: camera."}


def test_each_image_is_copied_once_under_its_sha256(desk: Desk) -> None:
    desk.put(a=FAKE, b=FAKE, gone=FAKE, changed=FAKE, locked=FAKE)
    scan = desk.sweep()
    for name in ("a", "b", "gone", "changed", "locked"):
        desk.review(scan, name, "fake")
    del desk.archive.images[desk.uri("gone")]
    denied = ImageError(Reason.ACCESS_DENIED, "S3 answered 403")
    desk.archive.images |= {desk.uri("changed"): png(REAL, 99), desk.uri("locked"): denied}
    store = InMemoryImageStore(desk.archive.images)
    summary = desk.export(store=store)
    assert summary["left_out"] == {"access_denied": 1, "changed": 1, "not_found": 1}
    assert {(fault.cause, fault.uri) for fault in desk.faults} == {
        ("not_found", "s3://b/gone"), ("changed", "s3://b/changed"), ("access_denied", "s3://b/locked"),
    }  # fmt: skip
    assert desk.labels() == {"a": 0, "b": 0}
    for name in ("a", "b"):
        image = desk.records()[desk.uri(name)].image
        assert image == f"images/{desk.sha256(name)}.png"
        assert (desk.output / image).read_bytes() == desk.content(name)
        Image.open(desk.output / image).verify()
    assert len(list((desk.output / "images").iterdir())) == 2
    (desk.output / "images" / f"{desk.sha256('b')}.png").write_bytes(b"half of it")
    store.fetched.clear()
    desk.export(store=store)
    assert sorted(store.fetched) == [desk.uri(name) for name in ("b", "changed", "gone", "locked")]
    copy = desk.output / "images" / f"{desk.sha256('b')}.png"
    assert copy.read_bytes() == desk.content("b")
    copy.rename(copy.with_name(f".{copy.stem}.part{copy.suffix}"))
    desk.export(store=store)
    assert desk.records()[desk.uri("b")].image == f"images/{copy.name}", (
        "a partial copy that a killed export left is not used"
    )


def test_unavailable_storage_stops_the_export(desk: Desk) -> None:
    desk.put(a=FAKE)
    desk.review(desk.sweep(), "a", "fake")
    desk.archive.images[desk.uri("a")] = StorageUnavailableError("S3 answered SlowDown")
    with pytest.raises(StorageUnavailableError):
        desk.export(store=InMemoryImageStore(desk.archive.images))
    assert [path.name for path in desk.output.iterdir()] == ["images"]


def test_a_fault_may_stop_the_export(desk: Desk) -> None:
    desk.put(a=FAKE)
    desk.review(desk.sweep(), "a", "fake")

    def stop(fault: LeftOut) -> None:
        raise ConfigurationError(str(fault))

    with pytest.raises(ConfigurationError, match="line 1: unknown_image"):
        desk.export(labels=desk.label_file({"uri": "s3://b/nowhere", "label": 1}), report=stop)
    assert list(desk.output.iterdir()) == []


def test_the_command(database: Database, database_url: str, bucket: str, tmp_path: Path) -> None:
    desk = Desk(Archive(database, engine=ScriptedEngine()), tmp_path / "dataset", bucket)
    desk.put(a=FAKE, b=REAL, c=FAKE, gone=FAKE)
    s3 = boto3.client("s3")
    for name in ("a", "b", "c"):
        s3.put_object(Bucket=bucket, Key=name, Body=desk.content(name))
    scan = desk.sweep()
    environment = {"DATABASE_URL": database_url, "COLUMNS": "200"}
    run = ("export", "--output", str(desk.output))
    nothing = fakesweep(*run, environment=environment)
    assert (nothing.returncode, nothing.stdout) == (1, "")
    assert nothing.stderr == (
        "fakesweep: nothing to export: nothing is reviewed or labelled; review findings, or give --labels\n"
    )
    for name, statement in {"a": "fake", "b": "real", "c": "cannot_tell", "gone": "fake"}.items():
        desk.review(scan, name, statement)
    only_train = ("--train", "1", "--validation", "0", "--test", "0", "--images")
    labels = tmp_path / "labels.csv"
    labels.write_text(f"uri,label,category\n{desk.uri('c')},fake,scene\n{desk.uri('a')},unknown,scene\n")
    done = fakesweep(*run, *only_train, "--labels", str(labels), "--scan", str(scan), "--since", "2026-07-01",
                     environment=environment)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "train\tfake 2\treal 1\texplained 2", "validation\tfake 0\treal 0\texplained 0",
        "test\tfake 0\treal 0\texplained 0",
    ]  # fmt: skip
    said = [line for line in done.stderr.splitlines() if not line.startswith("writing records: ")]  # comes after 5 s
    assert said == [
        "fakesweep: line 3: bad_line: label must be real or 1, fake or 0",
        f"fakesweep: {desk.uri('gone')}: not_found: S3 answered NoSuchKey",
        "fakesweep: left out: bad_line 1, not_found 1",
    ]
    assert len(desk.records()) == 3
    assert all((desk.output / record.image).is_file() for record in desk.records().values())
    told = fakesweep(*run, "--since", "2026-06-30", "--json", environment=environment)
    assert json.loads(told.stdout)["since"] == "2026-06-30T00:00:00+00:00"
    assert "holds no" in told.stderr


@pytest.mark.parametrize(
    ("wrong", "code", "said"),
    [
        (("--train", "0.9"), 2, "--train, --validation and --test must sum to 1, not to 1.1"),
        (("--labels", "{labels}", "--strict"), 2, "--strict: line 1: unknown_image"),
        (("--images", "--strict"), 2, "--strict: s3://"),
        (("--since", "yesterday"), 2, "--since"),
        (("--scan", str(uuid4())), 1, "there is no scan"),
    ],
)
def test_the_command_refuses(
    database: Database, database_url: str, bucket: str, tmp_path: Path, wrong: tuple[str, ...], code: int, said: str
) -> None:
    desk = Desk(Archive(database), tmp_path / "dataset", bucket)
    desk.put(a=FAKE)
    desk.review(desk.sweep(), "a", "fake")
    labels = desk.label_file({"uri": "s3://b/nowhere", "label": 1})
    arguments = [one.format(labels=labels) for one in wrong]
    environment = {"DATABASE_URL": database_url, "COLUMNS": "200"}
    refused = fakesweep("export", "--output", str(desk.output), *arguments, environment=environment)
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (code, "", 1), refused.stderr
    assert said in refused.stderr
