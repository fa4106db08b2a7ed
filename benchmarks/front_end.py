"""How much does vLLM's front end cost our process per image, compared with the path through vLLM's renderer?

    python -m benchmarks --only front_end

Measures CPU seconds of this process with all its threads, from the square image to the completion. The engine core is
not included, because it is a process of its own. One engine with the demo detector runs both paths in turns, in
messages of sixteen on four threads. The reference is the path of commit d6bb875: the raw prompt and the image go to
AsyncLLM, vLLM's renderer calls Hugging Face's processor, and vLLM writes the answer's text while it looks for stop
strings.
"""

import asyncio
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

from PIL.Image import Image
from vllm import SamplingParams, envs
from vllm.outputs import CompletionOutput
from vllm.sampling_params import RequestOutputKind

from benchmarks import DEMO_DETECTOR
from benchmarks.comparison import Comparison, Wanted, in_turns
from deploy.demo.answers import FAMILIES, REAL
from deploy.demo.draw import draw
from worker.detector.description import vlm_only
from worker.detector.engine import Completion, Step
from worker.detector.loading import load_description
from worker.detector.supply import supply
from worker.detector.tokens import texts, together
from worker.detector.vllm_engine import VllmEngine
from worker.errors import EngineGenerateError
from worker.images import to_square
from worker.messages import Explain
from worker.settings import Settings

IMAGES = 64
MESSAGE = 16
THREADS = 4
ROUNDS = 3
TARGET = 0.25

KINDS = {"front_end.verdict": Explain.NONE, "front_end.explained": Explain.ALL}
"""The answer ends after its opening sentence, or is complete: about 33 tokens."""


def compare(wanted: Wanted) -> Iterator[Comparison]:
    """Compares CPU seconds per image of our process with those of the rendered path."""
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    settings = Settings(
        detector=str(DEMO_DETECTOR), max_num_seqs=64, max_num_batched_tokens=4096, gpu_memory_utilization=0.2
    )
    description, folder = supply(vlm_only(load_description(settings), "this benchmark"), settings)
    kinds = [REAL, *FAMILIES]
    images = [
        to_square(draw(7_000_000 + number, kinds[number % len(kinds)]), edge=description.preprocessing.edge)
        for number in range(IMAGES)
    ]
    engine = VllmEngine(description, folder, settings)
    try:
        rendered = Rendered.beside(engine)
        for name, explain in KINDS.items():
            if wanted(name):
                _check_same_answers(engine, rendered, images, explain)
                ours, reference = in_turns(
                    partial(_cpu_s, engine, images, explain),
                    partial(_rendered_cpu_s, rendered, images, explain),
                    ROUNDS,
                )
                yield Comparison(name, "CPU s/image", ours, reference, TARGET, higher_is_better=False)
    finally:
        engine.close()


def _cpu_s(engine: VllmEngine, images: list[Image], explain: Explain) -> float:
    messages = [images[start : start + MESSAGE] for start in range(0, len(images), MESSAGE)]
    with ThreadPoolExecutor(THREADS) as threads:
        began = time.process_time()
        for answers in threads.map(partial(engine.complete, explain=explain), messages):
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
        return (time.process_time() - began) / len(images)


def _rendered_cpu_s(rendered: "Rendered", images: list[Image], explain: Explain) -> float:
    with rendered.as_shipped():
        return _cpu_s(rendered, images, explain)


def _check_same_answers(engine: VllmEngine, rendered: VllmEngine, images: list[Image], explain: Explain) -> None:
    """Checks that both paths give the same answers. This also keeps their first-time costs out of the measurement."""
    for ours, theirs in zip(
        engine.complete(images, explain=explain), rendered.complete(images, explain=explain), strict=True
    ):
        if not (isinstance(ours, Completion) and isinstance(theirs, Completion) and ours.text == theirs.text):
            raise SystemExit(f"the two paths do not answer alike: {ours} and {theirs}")


class Rendered(VllmEngine):
    """The path of commit d6bb875, on the AsyncLLM of an engine that already runs."""

    @classmethod
    def beside(cls, engine: VllmEngine) -> "Rendered":
        """Makes one that shares everything with `engine`. Close only `engine`."""
        rendered = cls.__new__(cls)
        rendered.__dict__.update(engine.__dict__)
        return rendered

    def complete(
        self,
        images: Sequence[Image],
        *,
        explain: Explain = Explain.FLAGGED,
        max_tokens: int | None = None,
        live: bool = False,
    ) -> list[Completion | EngineGenerateError]:
        """See Engine. Any error ends the benchmark."""
        del live
        work = self._answers(images, self._parameters(explain, max_tokens))
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    @contextmanager
    def as_shipped(self) -> Iterator[None]:
        """Removes from vLLM's front end what worker.detector.vllm_front_end changed, while the body runs."""
        known = vars(self._llm.output_processor.tokenizer)
        spared = {name: known.pop(name) for name in ("decode", "convert_ids_to_tokens") if name in known}
        envs.disable_envs_cache()
        try:
            yield
        finally:
            known.update(spared)
            envs.enable_envs_cache()

    async def _answers(
        self, images: Sequence[Image], sampling: SamplingParams
    ) -> list[Completion | EngineGenerateError]:
        return list(await asyncio.gather(*(self._answer(image, sampling) for image in images)))

    async def _answer(self, image: Image, sampling: SamplingParams) -> Completion:
        started = time.monotonic()
        prompt = {"prompt": self._description.prompt_text, "multi_modal_data": {"image": image}}
        final = None
        async for output in self._llm.generate(prompt, sampling, uuid.uuid4().hex, priority=1):
            final = output
        if final is None or not final.outputs[0].logprobs:
            raise SystemExit("the engine ended the request without an answer")
        answer = final.outputs[0]
        return Completion(
            steps=tuple(self._read(answer)),
            prompt_token_ids=tuple(final.prompt_token_ids or ()),
            latency_ms=round((time.monotonic() - started) * 1000),
            cut_off=answer.finish_reason == "length",
        )

    def _read(self, answer: CompletionOutput) -> Iterator[Step]:
        tokens = self._verdict_tokens
        pieces = texts(self._tokenizer, answer.token_ids)
        for id_, text, logprobs in zip(answer.token_ids, pieces, answer.logprobs or (), strict=True):
            fake, real = (together(logprobs[one].logprob for one in side) for side in (tokens.fake, tokens.real))
            yield Step(id_, text, fake, real, is_verdict=id_ in tokens.ids)

    def _parameters(self, explain: Explain, max_tokens: int | None) -> SamplingParams:
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
