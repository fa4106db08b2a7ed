"""A name that cannot be an address is a fault, and the rest of the dataset is evaluated."""

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.scripted_evaluation import scripted_parts
from worker.errors import ImageError, Reason
from worker.lab.datasets.faults import Faults, read_records
from worker.lab.datasets.images import image_ref
from worker.lab.datasets.records import Cause
from worker.lab.evaluation.journal import Journal
from worker.lab.evaluation.run import judge_records
from worker.testing import ScriptedEngine


@pytest.mark.parametrize("name", ["a\0b.jpg", "k" * 3000])
def test_a_name_that_cannot_be_a_key(name: str) -> None:
    with pytest.raises(ImageError, match="must be s3://bucket/key") as caught:
        image_ref(name, "s3://bucket/prefix")
    assert caught.value.reason is Reason.NOT_FOUND


def test_a_nul_in_a_name_is_a_fault_of_the_evaluation(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "b.png")
    dataset = tmp_path / "set.jsonl"
    dataset.write_text("\n".join(json.dumps({"image": name, "label": 1}) for name in ("a\0b.jpg", "b.png")))
    faults = Faults()
    records = read_records(dataset, faults)
    with Journal.opened(tmp_path / "out", {"dataset": "this"}) as journal:
        list(judge_records(records, journal, scripted_parts(tmp_path, faults, ScriptedEngine())))
        assert [one.image for one in journal.predictions()] == ["b.png"]
    assert [(one.line, one.cause) for one in faults] == [(1, Cause.MISSING_IMAGE)]
