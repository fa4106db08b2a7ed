"""The engine that serves: vLLM's AsyncLLM on an event loop of its own, fed by all worker threads."""

import asyncio
import threading
import time
import uuid
from collections.abc import Coroutine, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path
from typing import Any, TypeVar

from PIL.Image import Image
from vllm import AsyncEngineArgs, SamplingParams
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError as VllmEngineDeadError

from worker.detector.description import DetectorDescription
from worker.detector.engine import Completion
from worker.detector.tokens import verdict_token_ids
from worker.errors import ConfigurationError, EngineDeadError, EngineGenerateError
from worker.messages import Explain
from worker.settings import Settings

_Result = TypeVar("_Result")
_LIVE, _SCAN = 0, 1  # vLLM's priority scheduling runs lower numbers first


class VllmEngine:
    """See worker.detector.engine.Engine. One replica on one GPU (or on the CPU, with vLLM's CPU build)."""

    def __init__(self, description: DetectorDescription, folder: Path, settings: Settings) -> None:
        self._description = description
        self._timeout_s = settings.engine_timeout_s
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vllm-loop", daemon=True)
        self._thread.start()
        try:
            self._llm = self._run(self._start(engine_args(description, folder, settings)), timeout_s=1800)
        except Exception as error:
            self._stop_loop()
            raise ConfigurationError(
                f"FAKESWEEP_MODEL: vLLM cannot start with {folder}: {type(error).__name__}: {error}"
            ) from error
        self.verdict_ids = verdict_token_ids(self._llm.get_tokenizer(), description)

    @staticmethod
    async def _start(args: AsyncEngineArgs) -> AsyncLLM:
        return AsyncLLM.from_engine_args(args)

    def _run(self, work: Coroutine[Any, Any, _Result], *, timeout_s: float) -> _Result:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout_s)
        except FutureTimeoutError:
            future.cancel()
            raise EngineDeadError(f"no answer within {timeout_s:g} s (FAKESWEEP_ENGINE_TIMEOUT_S)") from None

    def complete(
        self, images: Sequence[Image], *, explain: Explain = Explain.FLAGGED, live: bool = False
    ) -> list[Completion | EngineGenerateError]:
        """See Engine. All images go in at once; vLLM batches them with those of the other threads."""
        sampling = self._sampling_params(explain)
        priority = _LIVE if live else _SCAN
        return self._run(self._complete_all(images, sampling, priority), timeout_s=self._timeout_s)

    async def _complete_all(
        self, images: Sequence[Image], sampling: SamplingParams, priority: int
    ) -> list[Completion | EngineGenerateError]:
        answers = await asyncio.gather(
            *(self._complete(image, sampling, priority) for image in images), return_exceptions=True
        )
        completions: list[Completion | EngineGenerateError] = []
        for answer in answers:
            if isinstance(answer, VllmEngineDeadError):
                raise EngineDeadError(str(answer)) from answer
            if isinstance(answer, BaseException):
                completions.append(EngineGenerateError(f"{type(answer).__name__}: {answer}"))
            else:
                completions.append(answer)
        return completions

    async def _complete(self, image: Image, sampling: SamplingParams, priority: int) -> Completion:
        started = time.monotonic()
        prompt = {"prompt": self._description.prompt_text, "multi_modal_data": {"image": image}}
        final = None
        async for output in self._llm.generate(prompt, sampling, uuid.uuid4().hex, priority=priority):
            final = output
        if final is None or not final.outputs[0].logprobs:
            raise EngineGenerateError("the engine ended the request without an answer")
        answer = final.outputs[0]
        fake, real = self.verdict_ids
        return Completion(
            text=answer.text,
            token_ids=tuple(answer.token_ids),
            verdict_logprobs=tuple((step[fake].logprob, step[real].logprob) for step in answer.logprobs),
            prompt_tokens=len(final.prompt_token_ids or ()),
            latency_ms=round((time.monotonic() - started) * 1000),
        )

    def _sampling_params(self, explain: Explain) -> SamplingParams:
        description = self._description
        stop = {
            Explain.ALL: None,
            Explain.FLAGGED: [description.real_opening],
            Explain.NONE: [description.real_opening, description.fake_opening],
        }[explain]
        return SamplingParams(
            temperature=0,
            max_tokens=description.max_tokens,
            stop=stop,
            include_stop_str_in_output=True,
            logprobs=len(self.verdict_ids),
            logprob_token_ids=list(self.verdict_ids),
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def close(self) -> None:
        """See Engine. Without it the process would wait for vLLM's output handler for ever."""
        if self._thread.is_alive():
            self._llm.shutdown()
            self._stop_loop()
            del self._llm  # else its finalizer runs at the interpreter's end, when its modules are gone

    def _stop_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)


def engine_args(description: DetectorDescription, folder: Path, settings: Settings) -> AsyncEngineArgs:
    """vLLM's arguments. Unique images share no prefix (the image comes first): both caches would only cost hashing.

    vLLM's defaults admit 2,048 tokens a step, three images of 590; hence the explicit limits.
    """
    return AsyncEngineArgs(
        model=str(folder),
        dtype=description.dtype,
        quantization=description.quantization,
        kv_cache_dtype=settings.kv_cache_dtype,
        max_model_len=description.max_model_len,
        max_num_seqs=settings.max_num_seqs,
        max_num_batched_tokens=settings.max_num_batched_tokens,
        gpu_memory_utilization=settings.gpu_memory_utilization,
        limit_mm_per_prompt={"image": 1},
        enable_prefix_caching=False,
        mm_processor_cache_gb=0,
        scheduling_policy="priority",
        enforce_eager=description.enforce_eager,
        seed=0,
    )
