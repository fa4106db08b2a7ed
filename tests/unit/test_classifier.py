"""What the classifier does with its batches, with numbers that are none, and with a GPU that fails."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from structlog.testing import capture_logs

from tests.classifiers import (
    EDGE,
    BrightModel,
    bright_detector,
    classifier_description,
    detector_toml,
    save_classifier,
)
from worker.detector.calibration import Calibration
from worker.detector.classifier import ClassifierDetector
from worker.detector.detector import warm_up
from worker.detector.loading import load_description
from worker.detector.maker import maker_of
from worker.detector.pixels import Pixels
from worker.detector.start import start_detector
from worker.detector.verdicts import Answer, Judgement
from worker.errors import ConfigurationError, EngineDeadError, EngineGenerateError
from worker.messages import Policy
from worker.settings import Settings

GREYS = [Image.new("RGB", (EDGE, EDGE), (level, level, level)) for level in range(10, 250, 24)]


def log_odds(found: list[Judgement | EngineGenerateError]) -> list[float | None]:
    return [one.log_odds if isinstance(one, Judgement) else None for one in found]


def test_a_batch_has_at_most_batch_size_images() -> None:
    model = BrightModel()
    found = bright_detector(model, batch_size=4).judge(GREYS, Policy())
    assert model.calls == [4, 4, 2]
    assert log_odds(found) == sorted(log_odds(found))  # type: ignore[type-var]


def test_a_batch_has_no_more_images_than_a_message() -> None:
    model = BrightModel()
    bright_detector(model, batch_size=64).judge([GREYS[0]] * 20, Policy())
    assert model.calls == [16, 4]


def test_an_answer_has_a_score_and_no_words() -> None:
    black, white = (Image.new("RGB", (EDGE, EDGE), colour) for colour in ("black", "white"))
    calibration = Calibration(slope=2)
    real, fake = bright_detector(BrightModel(), calibration=calibration).judge([black, white], Policy())
    assert isinstance(real, Judgement)
    assert isinstance(fake, Judgement)
    assert (real.answer, fake.answer) == (Answer.REAL, Answer.FAKE)
    assert fake.log_odds is not None
    assert fake.score == calibration.score(fake.log_odds)
    for one in (real, fake):
        assert (one.completion, one.explanation, one.contradicts, one.cut_off) == ("", None, False, False)
        assert (one.prompt_tokens, one.completion_tokens) == (0, 0)


def test_a_number_that_is_none_is_the_error_of_its_image_alone() -> None:
    def spoil(pixels: torch.Tensor) -> None:
        if len(pixels) > 1:  # not at the start
            pixels[1] = torch.nan
            pixels[2] = torch.inf

    found = bright_detector(BrightModel(spoil), batch_size=4).judge(GREYS[:4], Policy())
    assert [isinstance(one, EngineGenerateError) for one in found] == [False, True, True, False]
    assert str(found[1]) == "the classifier gave no finite number for this image"


@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_an_image_of_another_form_is_refused(mode: str) -> None:
    found = bright_detector(BrightModel()).judge([GREYS[0], GREYS[0].convert(mode), GREYS[1]], Policy())
    assert str(found[1]) == f"the image is 64 x 64 {mode}, not 64 x 64 RGB"
    assert isinstance(found[0], Judgement)
    assert isinstance(found[2], Judgement)


class Memory:
    """A GPU or a CPU that has memory for `most` images at once."""

    def __init__(self, most: int, error: Exception | None = None) -> None:
        self.most, self.error = most, error or torch.OutOfMemoryError("CUDA out of memory")

    def __call__(self, pixels: torch.Tensor) -> None:
        if len(pixels) > self.most:
            raise self.error


@pytest.mark.parametrize("error", [None, RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")])
def test_a_batch_that_does_not_fit_into_memory_is_halved_from_then_on(error: Exception | None) -> None:
    expected = log_odds(bright_detector(BrightModel()).judge(GREYS, Policy()))
    model = BrightModel(Memory(3, error))
    detector = bright_detector(model, batch_size=8)
    with capture_logs() as logs:
        assert log_odds(detector.judge(GREYS, Policy())) == pytest.approx(expected)
    assert [one["batch_size"] for one in logs if one["event"] == "batch_halved"] == [4, 2]
    model.calls.clear()
    assert log_odds(detector.judge(GREYS, Policy())) == pytest.approx(expected)
    assert model.calls == [2, 2, 2, 2, 2]


def test_a_part_that_does_not_fit_into_memory_halves_the_batch_too() -> None:
    memory = Memory(99)
    model = BrightModel(memory)
    detector = bright_detector(model, cores=2, batch_size=8)
    expected = log_odds(detector.judge(GREYS, Policy()))
    assert sorted(model.calls) == [1, 1, 2, 2, 2, 2]
    memory.most = 1
    with capture_logs() as logs:
        assert log_odds(detector.judge(GREYS, Policy())) == pytest.approx(expected)
    assert [one["batch_size"] for one in logs if one["event"] == "batch_halved"] == [4, 2]
    model.calls.clear()
    assert log_odds(detector.judge(GREYS, Policy())) == pytest.approx(expected)
    assert set(model.calls) == {1}
    detector.close()


def test_a_small_rest_that_does_not_fit_for_now_leaves_the_batch_as_it_is() -> None:
    memory = Memory(99)
    model = BrightModel(memory)
    detector = bright_detector(model, batch_size=8)
    memory.most = 1
    assert len(detector.judge(GREYS[:2], Policy())) == 2
    memory.most = 99
    model.calls.clear()
    detector.judge(GREYS[:8], Policy())
    assert model.calls == [8]


def test_a_gpu_without_memory_for_one_image_is_a_dead_engine() -> None:
    memory = Memory(99)
    detector = bright_detector(BrightModel(memory))
    memory.most = 0
    with pytest.raises(EngineDeadError, match="too little memory for one image"):
        detector.judge(GREYS, Policy())


@pytest.mark.parametrize(
    "error", [torch.AcceleratorError("illegal access"), RuntimeError("CUBLAS_STATUS_ALLOC_FAILED")]
)
def test_a_gpu_that_fails_is_a_dead_engine(error: RuntimeError) -> None:
    def fail(pixels: torch.Tensor) -> None:
        if len(pixels) > 1:
            raise error

    with pytest.raises(EngineDeadError, match="the model failed"):
        bright_detector(BrightModel(fail)).judge(GREYS, Policy())


def test_a_live_image_waits_for_one_batch_and_goes_before_scans_that_came_earlier() -> None:
    first, release = threading.Event(), threading.Event()
    order: list[float] = []

    def hold(pixels: torch.Tensor) -> None:
        if not started:
            return
        order.append(float(pixels.mean()))
        if len(order) == 1:
            first.set()
            release.wait(30)

    started: list[bool] = []
    detector = bright_detector(BrightModel(hold), batch_size=1)
    started.append(True)

    def begin(images: list[Image.Image], *, live: bool = False) -> threading.Thread:
        thread = threading.Thread(target=detector.judge, args=(images, Policy()), kwargs={"live": live})
        thread.start()
        return thread

    threads = [begin(GREYS[:3])]
    assert first.wait(30)
    for waiting, (image, live) in enumerate([(GREYS[5], False), (GREYS[9], True)], 1):
        threads.append(begin([image], live=live))
        while detector._turns.waiting < waiting:
            time.sleep(0.001)
    release.set()
    for thread in threads:
        thread.join(30)
    assert len(order) == 5
    assert order.index(max(order)) == 1


# The model's input


def test_the_input_is_normalised_and_its_channels_come_first() -> None:
    description = classifier_description("none", input={"mean": (0.5, 0, 0), "std": (0.5, 1, 2)})
    square = Image.new("RGB", (EDGE, EDGE), (255, 51, 0))
    values = Pixels(description).of([square])
    assert tuple(values.shape) == (1, 3, EDGE, EDGE)
    assert values[0, :, 5, 7].tolist() == pytest.approx([1, 0.2, 0])


@pytest.mark.parametrize(("fit", "corner"), [("crop", 16), ("resize", 0)])
def test_a_smaller_input_is_the_centre_or_the_whole(fit: str, corner: int) -> None:
    description = classifier_description("none", input={"edge": 32, "fit": fit, "mean": (0, 0, 0), "std": (1, 1, 1)})
    levels = np.zeros((EDGE, EDGE, 3), np.uint8)
    levels[:, :, 0] = np.arange(EDGE)
    values = Pixels(description).of([Image.fromarray(levels)])
    assert tuple(values.shape) == (1, 3, 32, 32)
    assert values[0, 0, 5, 0].item() * 255 == pytest.approx(corner, abs=2)


# Starting


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_runs_on_a_cpu_with_nearly_the_same_scores(tmp_path: Path, dtype: str) -> None:
    folder = save_classifier(tmp_path / "vit")
    detectors = [ClassifierDetector(classifier_description(folder, dtype=kind), folder) for kind in ("float32", dtype)]
    whole, half = (
        [one.score for one in detector.judge(GREYS, Policy()) if isinstance(one, Judgement)] for detector in detectors
    )
    assert half == pytest.approx(whole, abs=0.05)


def test_a_gpu_that_is_not_there_is_refused() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(ConfigurationError, match=r"^FAKESWEEP_DETECTOR: device = cuda, but there is no GPU; set it"):
        bright_detector(BrightModel(), device="cuda")


def test_an_input_of_another_size_than_the_model_takes_is_refused_at_the_start(tmp_path: Path) -> None:
    folder = save_classifier(tmp_path / "vit")
    description = classifier_description(folder, input={"edge": 48})
    with pytest.raises(ConfigurationError, match=r"cannot take one image of 48 x 48 pixels .*; set input\.edge"):
        ClassifierDetector(description, folder)


def test_it_is_started_from_its_folder_alone(tmp_path: Path) -> None:
    settings = Settings(detector=str(detector_toml(save_classifier(tmp_path / "vit"))))
    detector = start_detector(load_description(settings), settings)
    warm_up(detector)
    assert isinstance(detector.judge(GREYS[:1], Policy())[0], Judgement)
    assert (detector.description.revision or "").startswith("sha256:")
    detector.close()


def test_what_made_its_verdicts_is_transformers_and_torch() -> None:
    maker = maker_of(bright_detector(BrightModel()))
    assert (maker.engine, maker.vllm, maker.card) == ("transformers", None, None)
    assert maker.transformers
    assert maker.torch
