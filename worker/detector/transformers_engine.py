"""The reference engine: transformers' generate. It is slower than vLLM. Use it to compare, or if vLLM is missing."""

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from worker.detector.description import VlmDescription
from worker.detector.engine import Completion, Step
from worker.detector.progress import Progress
from worker.detector.quiet import quiet_transformers
from worker.detector.tokens import texts, verdict_tokens
from worker.errors import ConfigurationError, EngineDeadError, EngineGenerateError
from worker.messages import Explain

_BATCH = 16


class TransformersEngine:
    """See worker.detector.engine.Engine. It batches the images of one message; threads wait for one another."""

    name = "transformers"

    def __init__(self, description: VlmDescription, folder: Path, *, stall_s: float = 300) -> None:
        limits = description.engine
        if limits.quantization or limits.kv_cache_dtype != "auto":
            raise ConfigurationError(
                "FAKESWEEP_ENGINE: transformers runs neither quantised weights nor a quantised cache; use vllm"
            )
        self._description = description
        self._lock = threading.Lock()
        self._progress = Progress(stall_s)
        self.on_gpu = torch.cuda.is_available()
        self._device = "cuda" if self.on_gpu else "cpu"
        try:
            with quiet_transformers():  # its progress bar has no line end, and would spoil a line of the log
                self._processor: Any = AutoProcessor.from_pretrained(folder)
                dtype = getattr(torch, limits.dtype)
                self._model: Any = AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype)
            self._model.to(self._device).eval()
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise ConfigurationError(
                f"FAKESWEEP_MODEL: transformers cannot load {folder}: {type(error).__name__}: {error}"
            ) from error
        self._verdict_tokens = verdict_tokens(self._processor.tokenizer, description.answer)

    def complete(
        self,
        images: Sequence[Image],
        *,
        explain: Explain = Explain.FLAGGED,
        max_tokens: int | None = None,
        live: bool = False,
    ) -> list[Completion | EngineGenerateError]:
        """See Engine. `live` has no effect, because this engine has no queue."""
        del live
        self.check()
        completions: list[Completion | EngineGenerateError] = []
        with self._progress.images(len(images)), self._lock:
            for start in range(0, len(images), _BATCH):
                batch = images[start : start + _BATCH]
                completions += self._generate(batch, explain, max_tokens)
                self._progress.advance(len(batch))
        return completions

    @torch.inference_mode()
    def _generate(self, images: Sequence[Image], explain: Explain, max_tokens: int | None) -> list[Completion]:
        started = time.monotonic()
        form = self._description.answer
        limit = min(form.max_tokens, max_tokens or form.max_tokens)
        # Every prompt has the same length, so nothing is padded.
        inputs = self._processor(
            images=list(images), text=[self._description.prompt_text] * len(images), return_tensors="pt"
        ).to(self._device, self._model.dtype)
        stops = form.stops(explain)
        output = self._model.generate(
            **inputs,
            do_sample=False,
            max_new_tokens=limit,
            pad_token_id=self._processor.tokenizer.pad_token_id,
            output_logits=True,
            return_dict_in_generate=True,
            **({"stop_strings": stops, "tokenizer": self._processor.tokenizer} if stops else {}),
        )
        prompt = inputs["input_ids"].tolist()
        answers = output.sequences[:, len(prompt[0]) :].tolist()
        logprobs = torch.stack(output.logits, dim=1).float().log_softmax(-1)
        fake, real = (
            logprobs[..., list(ids)].logsumexp(-1).tolist()
            for ids in (self._verdict_tokens.fake, self._verdict_tokens.real)
        )
        latency_ms = round((time.monotonic() - started) * 1000)
        return [
            Completion(steps, tuple(prompt_ids), latency_ms, cut_off=self._is_cut_off(steps, stops, limit))
            for prompt_ids, *answer in zip(prompt, answers, fake, real, strict=True)
            for steps in (self._steps(*answer),)
        ]

    def _steps(self, ids: list[int], fake: list[float], real: list[float]) -> tuple[Step, ...]:
        end = next((index + 1 for index, token in enumerate(ids) if token in self._ends()), len(ids))
        pieces = texts(self._processor.tokenizer, ids[:end])
        return tuple(
            Step(*step, is_verdict=step[0] in self._verdict_tokens.ids)
            for step in zip(ids, pieces, fake, real, strict=False)
        )

    def _ends(self) -> tuple[int | None, int | None]:
        return self._processor.tokenizer.eos_token_id, self._processor.tokenizer.pad_token_id

    def _is_cut_off(self, steps: tuple[Step, ...], stops: list[str], limit: int) -> bool:
        text = "".join(step.text for step in steps)
        ended = steps[-1].token_id in self._ends() or any(stop in text for stop in stops)
        return len(steps) >= limit and not ended

    def check(self) -> None:
        """See Engine."""
        if self._model is None:
            raise EngineDeadError("the engine was closed")
        self._progress.check()

    def close(self) -> None:
        """See Engine."""
        self._model = None
