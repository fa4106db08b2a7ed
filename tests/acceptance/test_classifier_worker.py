"""A worker as an operator starts it, with a classifier: no vLLM, no GPU, and verdicts without reasons."""

import json
from pathlib import Path

from deploy.demo.draw import draw_record
from tests.classifiers import detector_toml, save_classifier
from tests.processes import fakesweep, results_of, running_worker

DRAWN = 20


def test_a_folder_is_scanned_with_a_classifier(database_url: str, clean_redis_url: str, tmp_path: Path) -> None:
    (tmp_path / "set" / "images").mkdir(parents=True)
    for index in range(DRAWN):
        draw_record(index, seed=6, folder=tmp_path / "set")
    environment = {
        "DATABASE_URL": database_url,
        "BROKER_URL": clean_redis_url,
        "FAKESWEEP_DETECTOR": str(detector_toml(save_classifier(tmp_path / "tiny"))),
        "FAKESWEEP_ALLOWED_FOLDERS": str(tmp_path),
    }
    log = tmp_path / "worker.log"
    with running_worker(["producers", "worker"], environment, log):
        done = fakesweep("scan", str(tmp_path / "set"), "--watch", "--json", environment=environment, timeout_s=280)
        assert done.returncode == 0, done.stderr
        counts = json.loads(done.stdout)
        assert (counts["status"], counts["judged"], counts["failed"]) == ("done", DRAWN, 0)
        found = results_of(counts["scan"], environment)
    assert "classifier_starting" in log.read_text()
    assert "engine_starting" not in log.read_text()
    assert {row["explanation"] for row in found} == {None}
    assert len({row["score"] for row in found}) > DRAWN / 2
    (detector,) = {json.dumps(row["detector"]) for row in found}
    assert json.loads(detector)["gives_reasons"] is False
    (maker,) = {(row["maker"]["engine"], row["maker"]["vllm"], row["maker"]["card"]) for row in found}
    assert maker == ("transformers", None, None)
