"""The engine that serves: vLLM's AsyncLLM on an event loop of its own, fed by all worker threads."""

import asyncio
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, wait
from pathlib import Path

from PIL.Image import Image
from transformers import AutoTokenizer
from vllm import AsyncEngineArgs, SamplingParams
from vllm.outputs import CompletionOutput
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError as VllmEngineDeadError

from worker.detector.admission import Admission
from worker.detector.description import DetectorDescription
from worker.detector.engine import Completion, Step
from worker.detector.progress import Progress
from worker.detector.tokens import texts, together, verdict_tokens
from worker.errors import ConfigurationError, EngineDeadError, EngineGenerateError
from worker.messages import Explain
from worker.settings import Settings

_START_LIMIT_S = 1800  # weights of 14 GB from a slow disk, compilation, CUDA graphs
_GPU_STEP_TOKENS, _CPU_STEP_TOKENS = 4096, 800
_IMAGE_TOKENS = 600  # FakeVLM's prompt has 587, an answer of "This is a real image." six more
_STAY_STEPS = 8  # an image's prompt takes one step, and each token of such an answer another one
_LIVE, _SCAN = 0, 1  # vLLM's priority scheduling runs lower numbers first


class VllmEngine:
    """See worker.detector.engine.Engine. One replica on one GPU (or on the CPU, with vLLM's CPU build)."""

    def __init__(self, description: DetectorDescription, folder: Path, settings: Settings) -> None:
        self._description = description
        self._progress = Progress(settings.engine_stall_s)
        self._admission = admission(settings)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vllm-loop", daemon=True)
        self._thread.start()
        try:
            starting = self._start(engine_args(description, folder, settings))
            self._llm = asyncio.run_coroutine_threadsafe(starting, self._loop).result(_START_LIMIT_S)
        except Exception as error:
            self._stop_loop()
            raise ConfigurationError(
                f"FAKESWEEP_MODEL: vLLM cannot start with {folder}: {type(error).__name__}: {error}"
            ) from error
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._verdict_tokens = verdict_tokens(self._tokenizer, description.answer)

    @staticmethod
    async def _start(args: AsyncEngineArgs) -> AsyncLLM:
        return AsyncLLM.from_engine_args(args)

    def complete(
        self,
        images: Sequence[Image],
        *,
        explain: Explain = Explain.FLAGGED,
        max_tokens: int | None = None,
        live: bool = False,
    ) -> list[Completion | EngineGenerateError]:
        """See Engine. Each image goes in when it is admitted; vLLM batches those of all threads."""
        sampling = self._sampling_params(explain, max_tokens)
        call = self._admission.begin()
        futures: list[Future[Completion]] = []
        with self._progress.images(len(images)):
            try:
                for image in images:
                    self._admission.enter(call, live=live, check=self.check)
                    futures.append(self._hand_over(image, sampling, live=live))
                while wait(futures, timeout=1).not_done:
                    self.check()
            except BaseException:
                for future in futures:
                    future.cancel()
                raise
        return [_outcome(future) for future in futures]

    def _hand_over(self, image: Image, sampling: SamplingParams, *, live: bool) -> "Future[Completion]":
        """Puts an admitted image into the engine. It leaves when its answer is there, or when it is cancelled."""
        work = self._complete(image, sampling, _LIVE if live else _SCAN)
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        future.add_done_callback(lambda _: self._admission.leave(live=live))
        return future

    async def _complete(self, image: Image, sampling: SamplingParams, priority: int) -> Completion:
        started = time.monotonic()
        prompt = {"prompt": self._description.prompt_text, "multi_modal_data": {"image": image}}
        final = None
        try:
            async for output in self._llm.generate(prompt, sampling, uuid.uuid4().hex, priority=priority):
                final = output
        except Exception:
            self._progress.advance()  # a refusal is a pulse as well
            raise
        self._progress.advance()
        if final is None or not final.outputs[0].logprobs:
            raise EngineGenerateError("the engine ended the request without an answer")
        answer = final.outputs[0]
        return Completion(
            steps=tuple(self._steps(answer)),
            prompt_token_ids=tuple(final.prompt_token_ids or ()),
            latency_ms=round((time.monotonic() - started) * 1000),
            cut_off=answer.finish_reason == "length",
        )

    def _steps(self, answer: CompletionOutput) -> Iterator[Step]:
        tokens = self._verdict_tokens
        pieces = texts(self._tokenizer, answer.token_ids)
        for id_, text, logprobs in zip(answer.token_ids, pieces, answer.logprobs or (), strict=True):
            fake, real = (together(logprobs[one].logprob for one in side) for side in (tokens.fake, tokens.real))
            yield Step(id_, text, fake, real, is_verdict=id_ in tokens.ids)

    def _sampling_params(self, explain: Explain, max_tokens: int | None) -> SamplingParams:
        form = self._description.answer
        return SamplingParams(
            temperature=0,
            max_tokens=min(form.max_tokens, max_tokens or form.max_tokens),
            stop=form.stops(explain),
            include_stop_str_in_output=True,
            logprobs=len(self._verdict_tokens.ids),
            logprob_token_ids=list(self._verdict_tokens.ids),
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    @property
    def in_flight(self) -> int:
        """How many images are in the engine now."""
        return self._progress.in_flight

    def check(self) -> None:
        """See Engine."""
        if self._llm.errored:
            raise EngineDeadError("vLLM's engine core has ended")
        self._progress.check()

    def close(self) -> None:
        """See Engine. Without it the process would wait for vLLM's output handler for ever."""
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(_end_tasks(), self._loop).result(10)
            self._llm.shutdown()
            self._stop_loop()
            del self._llm  # else its finalizer runs at the interpreter's end, when its modules are gone

    def _stop_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)


def _outcome(future: "Future[Completion]") -> Completion | EngineGenerateError:
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, VllmEngineDeadError):
        raise EngineDeadError(str(error)) from error
    cause = error.__cause__ or error  # vLLM wraps what it did not expect without a word
    return EngineGenerateError(f"{type(cause).__name__}: {cause}")


async def _end_tasks() -> None:
    """Ends vLLM's own tasks before its core: they would log its end as a fault, and Python complain of those left."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def step_tokens(settings: Settings) -> int:
    """Tokens that vLLM takes into one step: of prompts and answers together.

    A live image's answer grows by one token a step, so steps are as short as they can be without idle hardware. On a
    GPU that is where matrix products stop to gain from more rows; a CPU is busy with a single image.
    """
    return settings.max_num_batched_tokens or (_CPU_STEP_TOKENS if current_platform.is_cpu() else _GPU_STEP_TOKENS)


def admission(settings: Settings) -> Admission:
    """How many images of scans may be in the engine: STAY_STEPS steps' worth, or one step's beside a live image."""
    images_a_step = max(1, step_tokens(settings) // _IMAGE_TOKENS)
    return Admission(settings.scan_images_in_engine or _STAY_STEPS * images_a_step, beside_live=images_a_step)


def engine_args(description: DetectorDescription, folder: Path, settings: Settings) -> AsyncEngineArgs:
    """vLLM's arguments. Unique images share no prefix (the image comes first): both caches would only cost hashing."""
    limits = description.engine
    return AsyncEngineArgs(
        model=str(folder),
        dtype=limits.dtype,
        quantization=limits.quantization,
        kv_cache_dtype=limits.kv_cache_dtype,
        max_model_len=limits.max_model_len,
        max_num_seqs=settings.max_num_seqs,
        max_num_batched_tokens=step_tokens(settings),
        gpu_memory_utilization=settings.gpu_memory_utilization,
        limit_mm_per_prompt={"image": 1, "video": 0, "audio": 0},
        enable_prefix_caching=False,
        mm_processor_cache_gb=0,
        scheduling_policy="priority",
        enforce_eager=limits.enforce_eager,
        seed=0,
    )
