"""What several models need of one GPU, or of one machine, is added up before the start."""

import json
import shutil
import sys
from pathlib import Path

import huggingface_hub
import psutil
import pytest

from producers.checking.gpu import Card
from producers.checking.model_files import Model
from producers.checking.rows import State
from producers.checking.together import judged_together
from tests.checking import check, subject_of
from tests.classifiers import detector_toml, save_classifier
from tests.conftest import DEMO_DETECTOR
from tests.unit.bad_models import WEIGHTS, sparse
from worker.detector.description import CascadeDescription, ClearRule
from worker.detector.inspection.model import ModelFolder
from worker.detector.inspection.together import BATCH_BYTES, CUDA_BYTES, Need, add_up, need_of, on_one_gpu
from worker.detector.loading import load_description
from worker.detector.memory import Where
from worker.detector.start import check_memory, supply_detector
from worker.errors import ConfigurationError
from worker.settings import Settings

GPU, MACHINE = Where.GPU, Where.MACHINE
CARD = {GPU: 24_000_000_000}
GB = 10**9


def on_gpu(name: str, gigabytes: float | None) -> Need:
    return Need(name, GPU, None if gigabytes is None else round(gigabytes * GB))


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return detector_toml(save_classifier(tmp_path / "small"), name='"small"')


def large(folder: Path, share: float, **changes: str) -> Path:
    """A classifier whose weights, which claim this share of the machine's free memory, use no space on the disk."""
    detector_toml(save_classifier(folder), **{"name": f'"{folder.name}"'} | changes)
    sparse(folder, int(psutil.virtual_memory().available * share) // 4)
    return folder


def with_an_unused_tensor(folder: Path, numbers: int) -> None:
    """Adds a tensor to the weights that the model does not use. It uses no space on the disk."""
    path = folder / WEIGHTS
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        content = file.read()
    end = len(content) + 2 * numbers
    header["unused"] = {"dtype": "F16", "shape": [numbers], "data_offsets": [len(content), end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text + content)
        file.truncate(8 + len(text) + end)


def test_what_fits_beside_the_share_of_vllm_is_accepted() -> None:
    add_up([on_gpu("quick", 1.5), on_gpu("fakevlm", None)], CARD, 0.9)
    add_up([on_gpu("one", None), on_gpu("two", None)], CARD, 0.5)
    add_up([on_gpu("one", 11), on_gpu("two", 12)], CARD, 0.9)


def test_one_model_is_left_to_its_own_check() -> None:
    add_up([on_gpu("quick", 30)], CARD, 0.9)
    add_up([on_gpu("quick", 30), Need("sure", MACHINE, 30 * GB)], CARD | {MACHINE: 20 * GB}, 0.9)


@pytest.mark.parametrize(
    ("needs", "share", "said"),
    [
        (
            [on_gpu("quick", 2.5), on_gpu("fakevlm", None)],
            0.9,
            (
                r"FAKESWEEP_GPU_MEMORY_UTILIZATION: the models do not fit on the GPU together. It has 24.0 GB. vLLM "
                r"takes 90% of it: 21.6 GB for fakevlm, and 3.0 GB are needed beside it \(quick 2.5 GB\); set it to at "
                'most 0.87, or set device = "cpu" in the description of quick'
            ),
        ),
        (
            [on_gpu("one", None), on_gpu("two", None)],
            0.9,
            (
                r"FAKESWEEP_GPU_MEMORY_UTILIZATION: .* vLLM takes 90% of it: 21.6 GB for one and 21.6 GB for two; "
                "set it to at most 0.5, or use fewer models"
            ),
        ),
        (
            [on_gpu("one", None), on_gpu("two", None), on_gpu("quick", 3.5)],
            0.45,
            r"FAKESWEEP_GPU_.*, and 4.0 GB are needed beside it \(quick 3.5 GB\); set it to at most 0.41, or .* quick",
        ),
        (
            [on_gpu("huge", 30), on_gpu("fakevlm", None)],
            0.9,
            'FAKESWEEP_GPU_.*; use a larger GPU, or set device = "cpu" in the description of huge',
        ),
        (
            [on_gpu("one", 12), on_gpu("two", 12)],
            0.9,
            (
                r"FAKESWEEP_DET.*: the models need 24.5 GB of the GPU together \(one 12.0 GB, two 12.0 GB\), but it "
                'has only 24.0 GB; use a larger GPU, or set device = "cpu" in the description of a classifier'
            ),
        ),
        (
            [Need("one", MACHINE, 6 * GB), Need("two", MACHINE, 5 * GB)],
            0.9,
            (
                r"FAKESWEEP_DET.*: the models on the CPU need at least 11.0 GB together \(one 6.0 GB, two 5.0 GB\), "
                r"but there are only 10.0 GB \(available on this machine\); use a larger machine, or .* fewer models"
            ),
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_the_remedy(needs: list[Need], share: float, said: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{said}$"):
        add_up(needs, CARD | {MACHINE: 10 * GB}, share)


def test_the_setting_that_the_refusal_names_is_accepted() -> None:
    needs = [on_gpu("quick", 2), on_gpu("fakevlm", None)]
    with pytest.raises(ConfigurationError, match=r"at most 0\.89,"):
        add_up(needs, CARD, 0.9)
    add_up(needs, CARD, 0.89)


@pytest.mark.parametrize(("dtype", "of_each"), [("float32", 4), ("float16", 2)])
def test_a_classifier_needs_its_weights_in_its_dtype_and_a_margin_on_a_gpu(
    dtype: str, of_each: int, small: Path
) -> None:
    description = load_description(Settings(detector=str(detector_toml(small, dtype=f'"{dtype}"'))))
    model = ModelFolder(small, description, "vllm", 0.9)
    weights = of_each * sum(one.elements for one in model.tensors.values())
    assert need_of(model, GPU).size == weights + BATCH_BYTES
    assert need_of(model, MACHINE).size == weights
    assert (BATCH_BYTES, CUDA_BYTES) == (0.6 * GB, 0.5 * GB), "docs/cascades.md names them"


def test_vllm_takes_a_share_of_a_gpu_only() -> None:
    settings = Settings(detector=str(DEMO_DETECTOR))
    for engine, where, shares in (("vllm", GPU, True), ("vllm", MACHINE, False), ("transformers", GPU, False)):
        model = ModelFolder(DEMO_DETECTOR, load_description(settings), engine, 0.9)
        assert (need_of(model, where).size is None) == shares


def test_a_gpu_that_vllm_does_not_know_is_the_one_that_torch_knows() -> None:
    unknown, known, host = (sys.maxsize, Where.UNKNOWN), (20 * GB, GPU), (9 * GB, MACHINE)
    assert on_one_gpu([known, unknown, host]) == [known, known, host]
    assert on_one_gpu([unknown, unknown]) == [unknown, unknown]
    assert on_one_gpu([(21 * GB, GPU), known]) == [known, known]


def test_two_stages_that_do_not_fit_together_are_refused_before_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their models are of the hub, so that no checksum of the large files is computed."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    for seed, name in enumerate(("first", "judge")):
        commit = str(seed) * 40
        folder = save_classifier(tmp_path / "hub" / "models--some--model" / "snapshots" / commit)
        with_an_unused_tensor(folder, int(psutil.virtual_memory().available * 0.7) // 4)
        (tmp_path / name).mkdir()
        detector_toml(tmp_path / name, name=f'"{name}"', model='"some/model"', revision=f'"{commit}"')
    (tmp_path / "cascade.toml").write_text(
        'kind = "cascade"\nname = "both"\nfirst = "./first"\njudge = "./judge"\n[clear]\nup_to = 0.1\n'
    )
    settings = Settings(detector=str(tmp_path / "cascade.toml"))
    description = load_description(settings)
    assert isinstance(description, CascadeDescription)
    said = r"on the CPU need at least .* together \(first .* GB, judge .* GB\)"
    with pytest.raises(ConfigurationError, match=said):
        supply_detector(description, settings)
    with pytest.raises(ConfigurationError, match=said):
        check_memory(description, (), settings)
    supply_detector(description.first, settings)  # alone, it fits
    unclear = description.model_copy(update={"clear": ClearRule()})
    with pytest.raises(ConfigurationError, match="calibrate"):  # before anything is fetched
        check_memory(unclear, (), settings)


def test_further_detectors_are_added_to_the_main_one(small: Path, tmp_path: Path) -> None:
    settings = Settings(detector=str(small))
    main, half = load_description(settings), large(tmp_path / "half", 0.7)
    further = [load_description(Settings(detector=str(half)))]
    check_memory(main, further, settings)
    again = shutil.copytree(half, tmp_path / "again")
    further.append(load_description(Settings(detector=str(detector_toml(again, name='"again"')))))
    with pytest.raises(ConfigurationError, match=r"on the CPU need at least .*\(small .*, half .*, again"):
        check_memory(main, further, settings)


def test_a_fault_in_the_files_of_a_further_detector_is_told_before_the_main_one_starts(
    small: Path, tmp_path: Path
) -> None:
    settings = Settings(detector=str(small))
    other = detector_toml(shutil.copytree(small, tmp_path / "other"), name='"other"')
    (other / "config.json").unlink()
    with pytest.raises(ConfigurationError, match=r"^FAKESWEEP_ALSO: other: .*no config.json"):
        check_memory(load_description(settings), [load_description(Settings(detector=str(other)))], settings)


def test_the_stages_of_a_cascade_that_fit_are_supplied(small: Path, tmp_path: Path) -> None:
    (tmp_path / "cascade.toml").write_text(
        'kind = "cascade"\nname = "both"\nfirst = "./small"\njudge = "./small"\n[clear]\nup_to = 0.1\n'
    )
    settings = Settings(detector=str(tmp_path / "cascade.toml"))
    assert supply_detector(load_description(settings), settings).folders == (small, small)


def test_check_has_a_row_for_each_card(small: Path) -> None:
    settings = Settings(detector=str(small))
    names = (small, DEMO_DETECTOR)
    models = [Model("", load_description(Settings(detector=str(one)))) for one in names]
    cards = {0: Card("NVIDIA L4", 24 * GB, 24 * GB), 2: Card("small", 8 * GB, 8 * GB)}
    fits, does_not = judged_together(models, names, cards, settings)
    assert (fits.state, fits.name, fits.found) == (State.OK, "0", "small and demo fit on NVIDIA L4 together")
    assert (does_not.state, does_not.name) == (State.WRONG, "2")
    assert does_not.found.endswith("and 1.1 GB are needed beside it (small 0.6 GB)")
    assert does_not.remedy.startswith("set FAKESWEEP_GPU_MEMORY_UTILIZATION to at most 0.86, or set device")


def test_check_skips_what_cannot_be_added_up(small: Path, tmp_path: Path) -> None:
    assert check("models together", subject_of(detector=str(small))).found == "no model runs on the GPU"
    detector_toml(small, name='"small"', device='"auto"')
    assert check("models together", subject_of(detector=str(small))).found == "only one model runs on the GPU"
    (tmp_path / "away").mkdir()
    away = detector_toml(tmp_path / "away", name='"away"', model='"nobody/nothing"', device='"auto"')
    row = check("models together", subject_of(detector=str(small), also=(str(away),)))
    assert (row.state, row.found.partition(" are ")[0]) == (State.SKIPPED, "the files of away")
