"""The reference engine: transformers' generate. Slower than vLLM; for parity, and for machines without vLLM."""

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration

from worker.detector.description import DetectorDescription
from worker.detector.engine import Completion
from worker.detector.tokens import verdict_token_ids
from worker.errors import ConfigurationError, EngineGenerateError
from worker.messages import Explain

_BATCH = 16


class TransformersEngine:
    """See worker.detector.engine.Engine. Batches are those of the message; threads wait for one another."""

    def __init__(self, description: DetectorDescription, folder: Path) -> None:
        self._description = description
        self._lock = threading.Lock()
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            self._processor: Any = AutoProcessor.from_pretrained(folder)
            self._model: Any = LlavaForConditionalGeneration.from_pretrained(
                folder, dtype=getattr(torch, description.dtype)
            )
            self._model.to(self._device).eval()
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise ConfigurationError(
                f"FAKESWEEP_MODEL: transformers cannot load {folder}: {type(error).__name__}: {error}"
            ) from error
        self.verdict_ids = verdict_token_ids(self._processor.tokenizer, description)

    def complete(
        self, images: Sequence[Image], *, explain: Explain = Explain.FLAGGED, live: bool = False
    ) -> list[Completion | EngineGenerateError]:
        """See Engine. `live` has no effect: there is no queue inside."""
        del live
        completions: list[Completion | EngineGenerateError] = []
        with self._lock:
            for start in range(0, len(images), _BATCH):
                completions += self._generate(images[start : start + _BATCH], explain)
        return completions

    @torch.inference_mode()
    def _generate(self, images: Sequence[Image], explain: Explain) -> list[Completion]:
        started = time.monotonic()
        # Every prompt has the same length, so nothing is padded.
        inputs = self._processor(
            images=list(images), text=[self._description.prompt_text] * len(images), return_tensors="pt"
        ).to(self._device, self._model.dtype)
        output = self._model.generate(
            **inputs,
            do_sample=False,
            max_new_tokens=self._description.max_tokens,
            output_logits=True,
            return_dict_in_generate=True,
            **self._stop(explain),
        )
        prompt_tokens = int(inputs["input_ids"].shape[1])
        logprobs = torch.stack(output.logits, dim=1).float().log_softmax(-1)[..., list(self.verdict_ids)]
        latency_ms = round((time.monotonic() - started) * 1000)
        return [
            self._completion(ids, steps, prompt_tokens, latency_ms)
            for ids, steps in zip(output.sequences[:, prompt_tokens:].tolist(), logprobs.tolist(), strict=True)
        ]

    def _completion(self, ids: list[int], steps: list[list[float]], prompt_tokens: int, latency_ms: int) -> Completion:
        special = {self._processor.tokenizer.eos_token_id, self._processor.tokenizer.pad_token_id}
        end = next((index + 1 for index, token in enumerate(ids) if token in special), len(ids))
        return Completion(
            text=self._processor.tokenizer.decode(ids[:end], skip_special_tokens=True),
            token_ids=tuple(ids[:end]),
            verdict_logprobs=tuple((fake, real) for fake, real in steps[:end]),
            prompt_tokens=prompt_tokens,
            latency_ms=latency_ms,
        )

    def _stop(self, explain: Explain) -> dict[str, Any]:
        description = self._description
        stop = {
            Explain.ALL: [],
            Explain.FLAGGED: [description.real_opening],
            Explain.NONE: [description.real_opening, description.fake_opening],
        }[explain]
        return {"stop_strings": stop, "tokenizer": self._processor.tokenizer} if stop else {}

    def close(self) -> None:
        """See Engine."""
        self._model = None
