"""The engine for production: vLLM's AsyncLLM on an event loop of its own, used by all worker threads."""

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

from worker.detector.admission import admission
from worker.detector.description import VlmDescription
from worker.detector.engine import Completion, Step
from worker.detector.llava_inputs import Prompt, inputs_for
from worker.detector.progress import Progress
from worker.detector.tokens import texts, verdict_logprobs, verdict_tokens
from worker.detector.vllm_arguments import engine_args
from worker.detector.vllm_core import let_core_end_with_us
from worker.detector.vllm_front_end import spare_front_end
from worker.errors import ConfigurationError, EngineDeadError, EngineGenerateError
from worker.messages import Explain
from worker.settings import Settings

_START_LIMIT_S = 1800  # weights of 14 GB from a slow disk, compilation, CUDA graphs
_LIVE, _SCAN = 0, 1  # vLLM's priority scheduling runs lower numbers first


class VllmEngine:
    """See worker.detector.engine.Engine. One replica on one GPU (or on the CPU, with vLLM's CPU build)."""

    name = "vllm"

    def __init__(self, description: VlmDescription, folder: Path, settings: Settings) -> None:
        self._description = description
        self._progress = Progress(settings.engine_stall_s)
        self.on_gpu = not current_platform.is_cpu()
        self._admission = admission(settings, on_cpu=not self.on_gpu)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vllm-loop", daemon=True)
        self._thread.start()
        let_core_end_with_us()
        try:
            starting = self._start(engine_args(description, folder, settings))
            self._llm = asyncio.run_coroutine_threadsafe(starting, self._loop).result(_START_LIMIT_S)
            choosing = inputs_for(self._llm, folder, description.prompt_text, description.preprocessing.edge)
            self._inputs = asyncio.run_coroutine_threadsafe(choosing, self._loop).result(_START_LIMIT_S)
        except Exception as error:
            self._stop_loop()
            raise ConfigurationError(
                f"FAKESWEEP_MODEL: vLLM cannot start with {folder}: {type(error).__name__}: {error}"
            ) from error
        spare_front_end(self._llm)
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
        """See Engine. Each image goes in when it is admitted. vLLM batches the images of all threads."""
        sampling = self._sampling_params(explain, max_tokens)
        futures: list[Future[Completion]] = []
        with self._progress.images(len(images)):
            try:
                prompts = self._admitted(images, live=live)
                futures.extend(self._hand_over(prompt, sampling, live=live) for prompt in prompts)
                while wait(futures, timeout=1).not_done:
                    self.check()
            except BaseException:
                for future in futures:
                    future.cancel()
                raise
        return [_outcome(future) for future in futures]

    def _admitted(self, images: Sequence[Image], *, live: bool) -> Iterator[Prompt | EngineGenerateError]:
        """Yields the prompt of each image when the image may go into the engine.

        All prompts are made when the first image is admitted, so that only calls whose turn has come hold pixel values:
        those of 16 images take 21 MB in float32.
        """
        call, prompts = self._admission.begin(), None
        for number in range(len(images)):
            self._admission.enter(call, live=live, check=self.check)
            try:
                prompts = prompts or self._inputs.of(images)
            except BaseException:
                self._admission.leave(live=live)
                raise
            yield prompts[number]

    def _hand_over(
        self, prompt: Prompt | EngineGenerateError, sampling: SamplingParams, *, live: bool
    ) -> "Future[Completion]":
        """Puts an admitted image into the engine. It leaves when it has its answer, or when it is cancelled."""
        work = self._complete(prompt, sampling, _LIVE if live else _SCAN)
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        future.add_done_callback(lambda _: self._admission.leave(live=live))
        return future

    async def _complete(
        self, prompt: Prompt | EngineGenerateError, sampling: SamplingParams, priority: int
    ) -> Completion:
        if isinstance(prompt, EngineGenerateError):
            self._progress.advance()
            raise prompt
        started = time.monotonic()
        final = None
        try:
            async for output in self._llm.generate(prompt, sampling, uuid.uuid4().hex, priority=priority):
                final = output
        except Exception:
            self._progress.advance()  # a refusal, too, shows that the engine is alive
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
        tokens, flat = self._verdict_tokens, answer.logprobs
        fake, real = verdict_logprobs(tokens, flat.token_ids, flat.logprobs, len(flat))
        pieces = texts(self._tokenizer, answer.token_ids)
        for id_, text, of_fake, of_real in zip(answer.token_ids, pieces, fake, real, strict=True):
            yield Step(id_, text, of_fake, of_real, is_verdict=id_ in tokens.ids)

    def _sampling_params(self, explain: Explain, max_tokens: int | None) -> SamplingParams:
        form = self._description.answer
        stops = form.stops(explain)
        return SamplingParams(
            temperature=0,
            max_tokens=min(form.max_tokens, max_tokens or form.max_tokens),
            stop=stops,
            include_stop_str_in_output=True,
            # We decode the text ourselves. vLLM would decode each token whose log-probability it gives; only stops need
            # that.
            detokenize=bool(stops),
            flat_logprobs=True,
            skip_clone=True,  # otherwise vLLM copies these for each image, although they belong to one call
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
        """See Engine. Without this call, the process would wait for vLLM's output handler for ever."""
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(_end_tasks(), self._loop).result(10)
            self._llm.shutdown()
            self._stop_loop()
            del self._llm  # otherwise its finalizer runs at the interpreter's end, when its modules are gone

    def _stop_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)


def _outcome(future: "Future[Completion]") -> Completion | EngineGenerateError:
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, VllmEngineDeadError):
        raise EngineDeadError(str(error)) from error
    cause = error.__cause__ or error  # vLLM wraps unexpected errors in one without a text
    return EngineGenerateError(f"{type(cause).__name__}: {cause}")


async def _end_tasks() -> None:
    """Ends vLLM's own tasks before its core. Otherwise they would log its end as a fault, and Python would complain."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
