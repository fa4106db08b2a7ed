"""Before the start, a worker finds out whether all its models fit into memory together."""

import shutil
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.classifiers import detector_toml, save_classifier
from tests.conftest import DEMO_DETECTOR
from tests.unit.bad_models import broken
from worker.detector.description import CascadeDescription, ClearRule
from worker.detector.inspection.model import ModelFolder
from worker.detector.inspection.together import BATCH_BYTES, CUDA_BYTES, check_together, need_of
from worker.detector.loading import load_description
from worker.detector.memory import AskDevice, Where
from worker.detector.start import check_memory, supply_detector
from worker.errors import ConfigurationError
from worker.settings import Settings

GPU, MACHINE = Where.GPU, Where.MACHINE
GB = 10**9


def has(size: float, where: Where = MACHINE) -> AskDevice:
    """Each model finds this memory, in bytes."""
    return lambda _engine, *, on_cpu=False: (round(size), MACHINE if on_cpu else where)


def opened(folder: Path, engine: str = "vllm") -> ModelFolder:
    return ModelFolder(folder, load_description(Settings(detector=str(folder))), engine, 0.9)


def weights(folder: Path) -> int:
    return need_of(opened(folder), MACHINE).size


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return detector_toml(save_classifier(tmp_path / "small"), name='"small"')


def twin(folder: Path, name: str) -> Path:
    return detector_toml(shutil.copytree(folder, folder.parent / name), name=f'"{name}"')


def test_what_only_lacks_room_for_a_full_batch_is_warned_about(small: Path) -> None:
    models = [opened(detector_toml(small, name='"small"', device='"auto"')), opened(DEMO_DETECTOR)]
    with capture_logs() as logs:
        check_together(models, has(24 * GB, GPU))
        assert not logs
        check_together(models, has(8 * GB, GPU))
    (warned,) = logs
    assert (warned["event"], warned["log_level"]) == ("memory_tight", "warning")
    assert warned["remedy"].startswith("set FAKESWEEP_GPU_MEMORY_UTILIZATION to at most 0.86, or set device")
    with pytest.raises(ConfigurationError, match=r"^FAKESWEEP_GPU_MEMORY_UTILIZATION: the models do not .*; use a"):
        check_together(models, has(GB, GPU))


@pytest.mark.parametrize(("dtype", "of_each"), [("float32", 4), ("float16", 2)])
def test_a_classifier_needs_its_weights_in_its_dtype_and_a_margin_on_a_gpu(
    dtype: str, of_each: int, small: Path
) -> None:
    model = opened(detector_toml(small, dtype=f'"{dtype}"'))
    size = of_each * sum(one.elements for one in model.tensors.values())
    on_gpu, on_cpu = need_of(model, GPU), need_of(model, MACHINE)
    assert (on_gpu.size, on_gpu.batch, on_cpu.size, on_cpu.batch) == (size, BATCH_BYTES, size, 0)
    assert (BATCH_BYTES, CUDA_BYTES) == (0.6 * GB, 0.5 * GB), "docs/cascades.md names them"


def test_vllm_takes_a_share_of_a_gpu_only() -> None:
    for engine, where, shares in (("vllm", GPU, True), ("vllm", MACHINE, False), ("transformers", GPU, False)):
        need = need_of(opened(DEMO_DETECTOR, engine), where)
        assert need.by_share == shares
        assert need.size > 0


def test_a_missing_package_is_told_as_that_of_the_model_that_needs_it(small: Path) -> None:
    def without_torch(engine: str, *, on_cpu: bool = False) -> tuple[int, Where]:
        if engine == "transformers":
            raise ImportError("No module named 'torch'")
        return 24 * GB, MACHINE if on_cpu else GPU

    with pytest.raises(ConfigurationError, match=r"^FAKESWEEP_ENGINE: transformers cannot be imported \(No module"):
        check_together([opened(DEMO_DETECTOR), opened(small)], without_torch)


def test_two_stages_that_do_not_fit_together_are_refused_before_the_start(small: Path, tmp_path: Path) -> None:
    twin(small, "judge")
    (tmp_path / "cascade.toml").write_text(
        'kind = "cascade"\nname = "both"\nfirst = "./small"\njudge = "./judge"\n[clear]\nup_to = 0.1\n'
    )
    settings = Settings(detector=str(tmp_path / "cascade.toml"))
    description = load_description(settings)
    assert isinstance(description, CascadeDescription)
    enough, little = has(2 * weights(small)), has(2 * weights(small) - 1)
    assert supply_detector(description, settings, enough).folders == (small, tmp_path / "judge")
    check_memory(description, (), settings, enough)
    said = r"on the CPU need at least .* together \(small .* GB, judge .* GB\)"
    with pytest.raises(ConfigurationError, match=said):
        supply_detector(description, settings, little)
    with pytest.raises(ConfigurationError, match=said):
        check_memory(description, (), settings, little)
    supply_detector(description.first, settings, little)  # alone, it fits
    unclear = description.model_copy(update={"clear": ClearRule()})
    with pytest.raises(ConfigurationError, match="calibrate"):  # before anything is fetched
        check_memory(unclear, (), settings, enough)


def test_further_detectors_are_added_to_the_main_one(small: Path) -> None:
    settings = Settings(detector=str(small))
    main = load_description(settings)
    further = [load_description(Settings(detector=str(twin(small, name)))) for name in ("second", "third")]
    check_memory(main, further[:1], settings, has(2.5 * weights(small)))
    with pytest.raises(ConfigurationError, match=r"on the CPU need at least .*\(small .*, second .*, third"):
        check_memory(main, further, settings, has(2.5 * weights(small)))


@pytest.mark.parametrize(
    ("way", "said"),
    [
        ("no config", "no config.json"),
        ("config impossible", "config.json is not valid"),
        ("text only", "which does not answer about images"),
    ],
)
def test_a_fault_in_the_files_of_a_further_detector_is_told_before_the_main_one_starts(
    way: str, said: str, small: Path, tmp_path: Path
) -> None:
    settings = Settings(detector=str(small))
    other = load_description(Settings(detector=str(broken(way, tmp_path))))
    with pytest.raises(ConfigurationError, match=f"^FAKESWEEP_ALSO: demo: .*{said}"):
        check_memory(load_description(settings), [other], settings)
