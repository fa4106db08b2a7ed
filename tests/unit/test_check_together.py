"""`fakesweep check` says whether the models of a worker fit on its GPU together."""

from pathlib import Path

import pytest

from producers.checking.gpu import Card
from producers.checking.model_files import Model
from producers.checking.rows import Row, State
from producers.checking.together import judged_together
from tests.checking import check, subject_of
from tests.classifiers import detector_toml, save_classifier
from tests.conftest import DEMO_DETECTOR
from worker.detector.loading import load_description
from worker.settings import Settings


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return detector_toml(save_classifier(tmp_path / "small"), name='"small"')


def rows_for(small: Path, cards: dict[int, int]) -> list[Row]:
    """Gives the rows for the demo on vLLM and a classifier. `cards`: how many GB each has."""
    folders = (small, DEMO_DETECTOR)
    models = [Model("", load_description(Settings(detector=str(one)))) for one in folders]
    found = {number: Card("NVIDIA L4", size * 10**9, size * 10**9) for number, size in cards.items()}
    return list(judged_together(models, folders, found, Settings(detector=str(small))))


def test_each_card_has_a_row(small: Path) -> None:
    fits, tight, too_small = rows_for(small, {0: 24, 2: 8, 3: 4})
    assert (fits.state, fits.name, fits.found) == (State.OK, "0", "small and demo fit on NVIDIA L4 together")
    assert (tight.state, tight.name) == (State.WARNING, "2")
    assert "full batches of images do not" in tight.found
    assert tight.remedy.startswith("set FAKESWEEP_GPU_MEMORY_UTILIZATION to at most 0.86, or set device")
    assert (too_small.state, too_small.name) == (State.WARNING, "3")
    assert too_small.found.startswith("the models do not fit on the GPU together. ")
    assert too_small.remedy.startswith("nothing, if --gpus does not name this GPU; otherwise set FAKESWEEP_GPU_MEM")


def test_the_card_that_a_worker_uses_is_wrong_if_they_do_not_fit(small: Path) -> None:
    does_not, fits = rows_for(small, {1: 4, 0: 24})  # CUDA_VISIBLE_DEVICES=1,0
    assert (does_not.state, does_not.name, fits.state) == (State.WRONG, "1", State.OK)
    assert does_not.found.endswith("and 0.5 GB are needed beside it (small 0.0 GB, CUDA 0.5 GB)")
    assert does_not.remedy.startswith("set FAKESWEEP_GPU_MEMORY_UTILIZATION to at most 0.72, or set device")


def test_what_cannot_be_added_up_is_skipped(small: Path, tmp_path: Path) -> None:
    assert check("models together", subject_of(detector=str(small))).found == "no model runs on the GPU"
    detector_toml(small, name='"small"', device='"auto"')
    assert check("models together", subject_of(detector=str(small))).found == "only one model runs on the GPU"
    (tmp_path / "away").mkdir()
    away = detector_toml(tmp_path / "away", name='"away"', model='"nobody/nothing"', device='"auto"')
    row = check("models together", subject_of(detector=str(small), also=(str(away),)))
    assert (row.state, row.found.partition(" are ")[0]) == (State.SKIPPED, "the files of away")
