"""Reviews of uncertain findings are labels: they are exported, and used for calibration and training."""

from pathlib import Path

import pytest

from tests.integration.test_export import Desk
from tests.integration.test_scans import Archive
from tests.scripted_evaluation import evaluate_scripted
from tests.training import train_in_process, weights, write_base
from worker.database import Database
from worker.lab.datasets.faults import Faults, read_records
from worker.lab.datasets.splits import Shares
from worker.lab.evaluation.calibrate import Wanted, calibrate
from worker.lab.evaluation.evaluated import read_evaluated
from worker.lab.evaluation.perturbations import CLEAN
from worker.lab.training.recipe import Stage
from worker.testing import InMemoryImageStore, ScriptedEngine, scripted_description

LEVELS = range(104, 152)
"""Grey levels whose scores are all between 0.4 and 0.6."""


@pytest.fixture
def desk(database: Database, tmp_path: Path) -> Desk:
    return Desk(Archive(database), tmp_path / "dataset")


def test_a_detector_is_trained_on_statements_about_uncertain_findings(desk: Desk, tmp_path: Path) -> None:
    desk.put(u1=110, u2=120, u3=130, u4=140)
    scan = desk.sweep()
    assert {row["verdict"] for row in desk.archive.rows(scan).values()} == {"uncertain"}
    for name, statement in (("u1", "real"), ("u2", "fake"), ("u3", "fake"), ("u4", "real")):
        desk.review(scan, name, statement)
    desk.export(shares=Shares(train=1, validation=0, test=0), store=InMemoryImageStore(desk.archive.images))
    base = write_base(tmp_path / "base")
    stage = Stage(crop=56, steps=2, batch_size=4, learning_rate=1e-3)
    assert train_in_process(base, desk.output / "train.json", tmp_path / "trained", stage) == []
    before, after = weights(base), weights(tmp_path / "trained")
    assert any(not before[name].equal(after[name]) for name in before)


def test_a_calibration_is_fitted_on_statements_about_uncertain_findings(desk: Desk, tmp_path: Path) -> None:
    desk.put(**{f"i{level}": level for level in LEVELS})
    scan = desk.sweep()
    assert {row["verdict"] for row in desk.archive.rows(scan).values()} == {"uncertain"}
    is_fake = {f"i{level}": level >= 128 or level % 8 == 0 for level in LEVELS}
    for name, fake in is_fake.items():
        desk.review(scan, name, "fake" if fake else "real")
    desk.export(shares=Shares(train=0.5, validation=0, test=0.5), store=InMemoryImageStore(desk.archive.images))
    assert desk.labels() == {name: 0 if fake else 1 for name, fake in is_fake.items()}

    faults = Faults()
    trained_on = read_records(desk.output / "train.json", faults)
    assert {record.is_fake for record in trained_on} == {True, False}
    assert faults == []
    for part in ("train", "test"):
        evaluate_scripted(desk.output / f"{part}.json", tmp_path / part, ScriptedEngine(), (CLEAN,))
    fit, report = (read_evaluated(tmp_path / part) for part in ("train", "test"))
    found = calibrate(scripted_description(), fit, report, Wanted(method="platt", false_positive_rate=0.5))
    assert found.fit.fake + found.fit.real + found.report.fake + found.report.real == len(LEVELS)
    assert found.calibration.slope > 1, "the brighter uncertain images are fake more often than their scores say"
