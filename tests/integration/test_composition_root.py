"""The worker's composition root takes its parts as arguments: of fakes, it builds a whole worker that judges."""

import socket
from uuid import uuid4

import pytest
from sqlalchemy import text

from tests.integration.test_moderate import BRIGHT, counts, findings, job, png, start
from worker.__main__ import build
from worker.database import Database, transaction
from worker.database.detectors import further_detectors, started_last
from worker.database.events import events as recorded
from worker.detector.description import DetectorDescription, vlm_only
from worker.detector.vlm import VlmDetector
from worker.errors import ConfigurationError, EngineDeadError
from worker.messages import JUDGE_IMAGES, LIVE_QUEUE, SCAN_QUEUE
from worker.metrics import Metrics
from worker.moderate import moderate
from worker.settings import Settings
from worker.tables import EventKind
from worker.testing import InMemoryImageStore, ScriptedEngine, scripted_description


def test_the_root_builds_a_worker_from_the_given_parts(
    database: Database, database_url: str, clean_redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("BROKER_URL", clean_redis_url)
    monkeypatch.setenv("FAKESWEEP_RETRY_LIMIT", "3")
    engine, store = ScriptedEngine(), InMemoryImageStore({"s3://b/1": png(BRIGHT)})
    started = scripted_description(revision="what the engine was started with")
    detector = VlmDetector(engine, started)
    app, lanes = build(
        Settings.from_environment(),
        describe=lambda _: scripted_description(),
        start=lambda _description, _settings: detector,
        open_store=lambda _: store,
        metrics=(metrics := Metrics.declare()),
    )
    parts, live = lanes[SCAN_QUEUE], lanes[LIVE_QUEUE]
    assert (parts.store, parts.detector, parts.description, parts.retry_limit) == (store, detector, started, 3)
    assert engine.calls == [1], "the engine is warmed up once"
    assert JUDGE_IMAGES in app.tasks
    assert (parts.live, live.live) == (False, True)
    assert (live.files, live.pixels, live.suspects) == (parts.files, parts.pixels, parts.suspects), (
        "both lanes share these"
    )
    assert live.database is not parts.database
    assert live.decoders is not parts.decoders
    assert parts.database.pool.size() + live.database.pool.size() == 8  # type: ignore[attr-defined]
    assert app.conf.lane_threads[LIVE_QUEUE] == 4
    scan = start(database, 1)
    moderate(job(scan, "s3://b/1"), uuid4(), parts)
    moderate(job(None, "s3://b/1"), uuid4(), live)
    judged = {"outcome": "judged", "verdict": "fake", "reason": ""}
    for queue, one in ((SCAN_QUEUE, judged), (LIVE_QUEUE, judged | {"outcome": "reused"})):
        assert metrics.registry.get_sample_value("fakesweep_images_total", {"queue": queue, **one}) == 1
    assert app.conf.metrics is metrics
    assert findings(database, scan.id)["s3://b/1"].verdict == "fake"
    assert counts(database, scan.id)["status"] == "done"
    with transaction(database) as session:
        (made,) = session.execute(text("SELECT engine FROM verdicts JOIN makers ON makers.id = maker_id")).scalars()
        (added,) = recorded(session, kinds=(EventKind.DETECTOR_ADDED,))
    assert (made, added.actor) == ("scripted", f"worker:{socket.gethostname()}")


def test_the_root_starts_further_detectors_after_the_main_one(
    database: Database, database_url: str, clean_redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("BROKER_URL", clean_redis_url)
    started: list[str] = []

    def begin(description: DetectorDescription, _settings: Settings) -> VlmDetector:
        started.append(description.name)
        return VlmDetector(ScriptedEngine(), vlm_only(description, "the test"))

    _, lanes = build(
        Settings.from_environment(),
        describe=lambda _: scripted_description(),
        describe_further=lambda _: (scripted_description(name="other"),),
        check_fit=lambda main, further, _settings: started.append(f"fit: {main.name}, {further[0].name}"),
        start=begin,
        open_store=lambda _: InMemoryImageStore({}),
        metrics=Metrics.declare(),
    )
    assert started == ["fit: scripted, other", "scripted", "other"]
    for parts in lanes.values():
        assert [one.name for one in parts.also] == ["other"]
    with transaction(database) as session:
        last = started_last(session)
        assert last is not None
        assert last.name == "scripted", "producers reuse the verdicts of the main detector"
        assert list(further_detectors(session)) == ["other"]


def test_a_further_detector_that_cannot_start_ends_the_others(
    database: Database, database_url: str, clean_redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("BROKER_URL", clean_redis_url)
    main = VlmDetector(ScriptedEngine(), scripted_description())

    def begin(description: DetectorDescription, _settings: Settings) -> VlmDetector:
        if description.name == "scripted":
            return main
        raise ConfigurationError("FAKESWEEP_MODEL: it has no model")

    with pytest.raises(ConfigurationError, match=r"^FAKESWEEP_ALSO: other: it has no model$"):
        build(
            Settings.from_environment(),
            describe=lambda _: scripted_description(),
            describe_further=lambda _: (scripted_description(name="other"),),
            check_fit=lambda *_: None,
            start=begin,
            open_store=lambda _: InMemoryImageStore({}),
            metrics=Metrics.declare(),
        )
    with pytest.raises(EngineDeadError):
        main.check()
