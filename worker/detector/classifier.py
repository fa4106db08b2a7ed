"""An image classifier of transformers as a detector. It gives a score and no reasons."""

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from transformers import AutoModelForImageClassification

from worker.detector.cores import Cores
from worker.detector.description import ClassifierDescription, Device
from worker.detector.inspection.model import line
from worker.detector.labels import label_numbers
from worker.detector.pixels import Pixels
from worker.detector.progress import Progress
from worker.detector.quiet import quiet_transformers
from worker.detector.turns import Turns
from worker.detector.verdicts import Answer, Judgement
from worker.errors import ConfigurationError, EngineDeadError, EngineGenerateError
from worker.messages import MAX_IMAGES, Policy

log = structlog.get_logger(__name__)

Floats = NDArray[np.float64]
_CLOSED = "the classifier was closed"
_NO_MEMORY = "can't allocate memory"
"""What torch says when a CPU has too little memory (c10's alloc_cpu). It has no class of its own for that."""


class ClassifierDetector:
    """See worker.detector.detector.Detector. Threads take turns with the model; a live image waits for one batch.

    `load` makes the model: an object with transformers' `config`, `dtype` and `to`, that returns `logits`. `cores` is
    the number of a CPU's cores that it computes on; by default, see Cores. Raises
    ConfigurationError if transformers cannot load the model, or if it does not take images of the described size.
    """

    engine_name = "transformers"

    def __init__(
        self,
        description: ClassifierDescription,
        folder: Path,
        *,
        stall_s: float = 300,
        load: Callable[[ClassifierDescription, Path], Any] | None = None,
        cores: int | None = None,
    ) -> None:
        self.description = description
        self._turns = Turns()
        self._progress = Progress(stall_s)
        self._device = _device(description.device)
        self.on_gpu = self._device == "cuda"
        self._pixels = Pixels(description)
        self._model = (load or load_classifier)(description, folder).to(self._device)
        self._fake, self._real = label_numbers(description.labels, self._model.config.id2label)
        self._batch = min(description.batch_size, MAX_IMAGES)
        self._halving = threading.Lock()
        self._closed = False
        self._cores = None if self.on_gpu else Cores(cores)
        self._try()

    def judge(
        self, images: Sequence[Image.Image], policy: Policy, *, live: bool = False
    ) -> list[Judgement | EngineGenerateError]:
        """See Detector. `policy` has no effect: a classifier always gives a score, and never reasons."""
        del policy
        self.check()
        ends: dict[int, Judgement | EngineGenerateError] = {
            number: error for number, one in enumerate(images) if (error := self._pixels.refusal(one))
        }
        fitting = [number for number in range(len(images)) if number not in ends]
        with self._progress.images(len(fitting)):
            while fitting:
                size = self._batch  # another thread may halve it
                batch, fitting = fitting[:size], fitting[size:]
                began = time.monotonic()
                log_odds = self._log_odds(self._pixels.of([images[number] for number in batch]), live=live)
                latency_ms = round((time.monotonic() - began) * 1000)
                ends |= {
                    number: self._judgement(float(one), latency_ms) for number, one in zip(batch, log_odds, strict=True)
                }
                self._progress.advance(len(batch))
        return [ends[number] for number in range(len(images))]

    def _log_odds(self, pixels: torch.Tensor, *, live: bool) -> Floats:
        """Returns log P(fake) - log P(real) in nats, of the shape (images,).

        If there is too little memory for a batch, its halves are tried. If it was a full batch, all batches have half
        as many images from then on. A smaller one says nothing about the size that fits: the memory was short for now.
        """
        try:
            with self._turns.turn(live=live):
                self.check()
                return self._run(pixels)
        except (torch.OutOfMemoryError, MemoryError) as error:
            half = len(pixels) // 2
            if not half:
                raise EngineDeadError(f"there is too little memory for one image: {line(error)}") from error
        with self._halving:
            if len(pixels) == self._batch:
                self._batch = half
                log.warning("batch_halved", reason="there is too little memory", batch_size=half)
        torch.cuda.empty_cache()
        return np.concatenate([self._log_odds(some, live=live) for some in (pixels[:half], pixels[half:])])

    def _run(self, pixels: torch.Tensor) -> Floats:
        try:
            loaded = self._model
            if loaded is None:  # another thread has closed the detector since it was checked
                raise EngineDeadError(_CLOSED)
            model = partial(self._logits, loaded)
            logits = self._cores.run(model, pixels) if self._cores else model(pixels)
            # A label's probability is its share of the softmax, so the sum over all labels cancels out.
            fake = logits[:, list(self._fake)].logsumexp(-1)
            real = logits[:, list(self._real)].logsumexp(-1) if self._real else torch.zeros_like(fake)
            found: Floats = (fake - real).numpy()
            return found
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            if _NO_MEMORY in str(error):
                raise MemoryError(line(error)) from error
            # No image is at fault: all have the same form. A GPU that failed stays unusable.
            raise EngineDeadError(f"the model failed: {line(error)}") from error

    @torch.inference_mode()
    def _logits(self, model: Any, pixels: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = model(pixel_values=pixels.to(self._device, model.dtype)).logits
        return logits.double().cpu()

    def _try(self) -> None:
        """Judges one grey image. Raises ConfigurationError if the model cannot take it."""
        edge = self.description.preprocessing.edge
        try:
            self._run(self._pixels.of([Image.new("RGB", (edge, edge), "grey")]))
        except (ValueError, TypeError, IndexError, EngineDeadError, torch.OutOfMemoryError, MemoryError) as error:
            size = f"{self.description.input_edge} x {self.description.input_edge}"
            raise ConfigurationError(
                f"FAKESWEEP_DETECTOR: the model cannot take one image of {size} pixels ({line(error)}); "
                "set input.edge to the image_size of its config.json, or use a larger GPU or machine"
            ) from error

    def _judgement(self, log_odds: float, latency_ms: int) -> Judgement | EngineGenerateError:
        if not np.isfinite(log_odds):
            return EngineGenerateError("the classifier gave no finite number for this image")
        answer = Answer.FAKE if log_odds > 0 else Answer.REAL
        score = self.description.calibration.score(log_odds)
        return Judgement(
            answer, log_odds, score, "", None, contradicts=False, cut_off=False, prompt_tokens=0, completion_tokens=0,
            latency_ms=latency_ms,
        )  # fmt: skip

    def check(self) -> None:
        """See Detector."""
        if self._closed:
            raise EngineDeadError(_CLOSED)
        self._progress.check()

    def close(self) -> None:
        """See Detector."""
        self._closed = True
        self._model = None
        if self._cores:
            self._cores.close()


def load_classifier(description: ClassifierDescription, folder: Path) -> Any:
    """Returns the model, ready to judge on the CPU. Raises ConfigurationError if transformers cannot load it."""
    try:
        with quiet_transformers():
            model = AutoModelForImageClassification.from_pretrained(folder, dtype=torch.float32)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ConfigurationError(
            f"FAKESWEEP_MODEL: transformers cannot load {folder} ({line(error)}); fetch it again"
        ) from error
    return _in_format(model.eval(), getattr(torch, description.dtype))


def _in_format(model: Any, dtype: torch.dtype) -> Any:
    """Returns the model with its numbers in this format, but a last linear layer in float32.

    16 bits would round its weights and its sum. The head that `train` learns has a large bias, because it has the
    standardisation of the features in it, and its scores would change by much.
    """
    last = getattr(model, "classifier", None)
    if dtype is torch.float32 or not isinstance(last, nn.Linear):
        return model.to(dtype)
    exact = {name: one.clone() for name, one in last.state_dict().items()}
    model.to(dtype)
    last.float().load_state_dict(exact)
    last.register_forward_pre_hook(lambda _layer, given: tuple(one.float() for one in given))
    return model


def _device(wanted: Device) -> str:
    there = torch.cuda.is_available()
    if wanted is Device.CUDA and not there:
        raise ConfigurationError("FAKESWEEP_DETECTOR: device = cuda, but there is no GPU; set it to auto or cpu")
    return "cuda" if there and wanted is not Device.CPU else "cpu"
