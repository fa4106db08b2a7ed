"""Whose thresholds count, how long an answer may be, and what happens when text and verdict contradict each other."""

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from PIL import Image
from sqlmodel import Session

from producers import scans
from producers.reporting import results
from worker.database import Database, transaction
from worker.database.detectors import register_detector
from worker.detector.description import vlm_only
from worker.detector.vlm import VlmDetector
from worker.images import Decoding, decode
from worker.messages import Explain, ImageRef, JudgeImages, Policy
from worker.moderate import moderate
from worker.path import Parts
from worker.tables import Scan, ScanStatus
from worker.testing import InMemoryImageStore, ScriptedEngine, scripted_description

LIGHT = "#b3b3b3"
"""A grey whose brightness is 0.702, and so is its score."""


def png(colour: str) -> bytes:
    target = io.BytesIO()
    Image.new("RGB", (336, 336), colour).save(target, "PNG")
    return target.getvalue()


@pytest.fixture
def make_parts(database: Database) -> Callable[..., Parts]:
    def make(**changes: Any) -> Parts:
        description = scripted_description(**changes)
        detector_id = register_detector(database, description.row())
        store = InMemoryImageStore({"s3://b/light": png(LIGHT)})
        return Parts(store, database, VlmDetector(ScriptedEngine(), description), detector_id)

    return make


def looking(parts: Parts, look: Callable[[Image.Image], float]) -> Parts:
    return replace(parts, detector=VlmDetector(ScriptedEngine(look), vlm_only(parts.description, "the script")))


def judged(database: Database, parts: Parts, policy: Policy, **message: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Scans the one image. Returns its result line and the scan's stored policy."""
    scan = scans.start_scan(database, scans.Listing(sources=("s3://b/",)), policy=policy)
    with transaction(database) as session:
        row = session.get_one(Scan, scan.id)
        row.listed, row.status = 1, ScanStatus.RUNNING
    moderate(JudgeImages(scan_id=scan.id, images=(ImageRef(uri="s3://b/light"),), **message), uuid4(), parts)
    with Session(database) as session:
        return next(results.rows(database, scan.id)), session.get_one(Scan, scan.id).policy


def test_what_is_not_set_is_not_stored_so_that_older_workers_can_read_it(database: Database) -> None:
    assert scans.start_scan(database, scans.Listing(sources=("s3://b/",))).policy == {"explain": "flagged"}


def test_the_detector_sees_images_as_its_description_says(database: Database, make_parts: Callable[..., Parts]) -> None:
    seen: list[tuple[int, int, int]] = []

    def look(image: Image.Image) -> float:
        corner = image.getpixel((0, 0))
        assert isinstance(corner, tuple)
        seen.append((*image.size, corner[0]))
        return 0.5

    wide = Image.new("RGB", (400, 100), "white")
    wide.paste("black", (0, 0, 40, 100))
    file = io.BytesIO()
    wide.save(file, "PNG")
    for fit in ("crop", "stretch"):
        parts = looking(make_parts(preprocessing={"edge": 112, "fit": fit}), look)
        assert isinstance(parts.store, InMemoryImageStore)
        parts.store.objects["s3://b/light"] = file.getvalue()
        judged(database, parts, Policy())
    assert seen == [(112, 112, 255), (112, 112, 0)]


def test_the_stored_size_is_the_images_own_even_if_it_was_decoded_smaller(
    database: Database, make_parts: Callable[..., Parts]
) -> None:
    seen: list[bytes] = []

    def look(image: Image.Image) -> float:
        seen.append(image.tobytes())
        return 0.5

    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.linear_gradient("L").resize((901, 700)).save(file, "JPEG", exif=exif)
    parts = make_parts(preprocessing={"edge": 112, "decode": "reduced"})
    parts = looking(parts, look)
    assert isinstance(parts.store, InMemoryImageStore)
    parts.store.objects["s3://b/light"] = file.getvalue()
    line, _policy = judged(database, parts, Policy())
    assert (line["width"], line["height"]) == (700, 901)
    assert seen == [decode(file.getvalue(), edge=112, decoding=Decoding.REDUCED).tobytes()]


def test_thresholds_are_the_detectors_and_are_stored(database: Database, make_parts: Callable[..., Parts]) -> None:
    line, policy = judged(database, make_parts(thresholds={"fake_from": 0.8, "real_to": 0.75}), Policy())
    assert line["verdict"] == "real"
    assert (policy["fake_from"], policy["real_to"]) == (0.8, 0.75)


def test_a_scan_keeps_the_thresholds_of_its_first_message(database: Database, make_parts: Callable[..., Parts]) -> None:
    parts = make_parts()
    scan = scans.start_scan(database, scans.Listing(sources=("s3://b/",)))
    one = JudgeImages(scan_id=scan.id, images=(ImageRef(uri="s3://b/gone"),))
    moderate(one, uuid4(), parts)
    stricter = replace(
        parts,
        detector=VlmDetector(ScriptedEngine(), scripted_description(thresholds={"fake_from": 0.99, "real_to": 0.9})),
    )
    moderate(one.model_copy(update={"images": (ImageRef(uri="s3://b/light"),)}), uuid4(), stricter)
    lines = {line["uri"]: line["verdict"] for line in results.rows(database, scan.id)}
    assert lines == {"s3://b/gone": None, "s3://b/light": "fake"}


def test_a_scans_own_thresholds_win(database: Database, make_parts: Callable[..., Parts]) -> None:
    line, policy = judged(database, make_parts(thresholds={"fake_from": 0.8, "real_to": 0.75}), Policy(fake_from=0.7))
    assert line["verdict"] == "fake"
    assert (policy["fake_from"], policy["real_to"]) == (0.7, 0.7)


def test_a_submission_without_a_scan_has_the_detectors_thresholds(
    database: Database, make_parts: Callable[..., Parts]
) -> None:
    message_id = uuid4()
    parts = make_parts(thresholds={"fake_from": 0.95, "real_to": 0.1})
    moderate(JudgeImages(images=(ImageRef(uri="s3://b/light"),)), message_id, parts)
    assert next(results.rows(database, message_id))["verdict"] == "uncertain"
    assert results.summary(database, message_id)["policy"]["fake_from"] == 0.95


@pytest.mark.parametrize(
    ("limit", "explanation"), [(None, "The picture is brighter than a camera makes it."), (8, "The picture")]
)
def test_an_answer_is_as_long_as_the_scan_allows(
    limit: int | None, explanation: str, database: Database, make_parts: Callable[..., Parts]
) -> None:
    line, _ = judged(database, make_parts(), Policy(max_tokens=limit))
    assert (line["explanation"], line["cut_off"]) == (explanation, limit is not None)


def test_a_cut_answer_is_reused_only_where_it_would_be_cut_again(
    database: Database, make_parts: Callable[..., Parts]
) -> None:
    parts = make_parts(answer={"max_tokens": 12})
    limits = [8, 8, 10, None, None, 8]
    outcomes = [judged(database, parts, Policy(max_tokens=limit))[0]["outcome"] for limit in limits]
    assert outcomes == ["judged", "reused", "judged", "judged", "reused", "reused"]


def test_a_flagged_image_that_the_detector_called_real_is_explained_and_marked(
    database: Database, make_parts: Callable[..., Parts]
) -> None:
    parts, engine = make_parts(), ScriptedEngine()
    parts = replace(parts, detector=VlmDetector(engine, scripted_description()))
    store = parts.store
    assert isinstance(store, InMemoryImageStore)
    store.objects["s3://b/light"] = png("#595959")  # a score of 0.35: the detector says real, and stops
    low = Policy(fake_from=0.3)
    lines = [
        judged(database, parts, policy)[0] for policy in (Policy(), low, low, Policy(), Policy(explain=Explain.NONE))
    ]
    assert [line["outcome"] for line in lines] == ["judged", "judged", "reused", "reused", "reused"]
    assert [line["verdict"] for line in lines] == ["real", "fake", "fake", "real", "real"]
    assert (lines[0]["explanation"], lines[0]["contradicts"]) == (None, False)
    for line in lines[1:3]:
        assert (line["answer"], line["contradicts"]) == ("real", True)
        assert line["explanation"] == "The picture is brighter than a camera makes it."
    assert engine.calls == [1, 1, 1]


def test_a_messages_option_for_explanations_overrides_the_scans(
    database: Database, make_parts: Callable[..., Parts]
) -> None:
    line, _ = judged(database, make_parts(), Policy(explain=Explain.FLAGGED), explain=Explain.NONE)
    assert (line["verdict"], line["explanation"]) == ("fake", None)


@pytest.mark.parametrize(
    ("changes", "policy", "verdict", "contradicts"),
    [
        ({}, Policy(), "fake", False),
        ({}, Policy(fake_from=0.9, real_to=0.8), "real", True),
        ({}, Policy(fake_from=0.9, real_to=0.1), "uncertain", False),
        ({"calibration": {"offset": -3.0}}, Policy(), "real", True),
    ],
)
def test_a_verdict_that_contradicts_the_detectors_answer_is_marked(
    changes: dict[str, Any],
    policy: Policy,
    verdict: str,
    contradicts: bool,
    database: Database,
    make_parts: Callable[..., Parts],
) -> None:
    line, _ = judged(database, make_parts(**changes), policy)
    assert (line["answer"], line["verdict"], line["contradicts"]) == ("fake", verdict, contradicts)
