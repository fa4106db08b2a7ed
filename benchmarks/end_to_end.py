"""Measures images per second from the first message to the last row, on real vLLM with the demo detector.

5 % of the images are fakes. There are three references. `engine`: the same engine, fed with squares from memory.
`authors`: a loop like the evaluation of FakeVLM's authors, which decodes one by one, sends static batches and has
everything explained. `task_per_image`: one Celery task per image, with a synchronous `LLM.generate`.
"""

import io
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import Any

import psycopg
from PIL import Image

from benchmarks import DEMO_DETECTOR
from benchmarks.comparison import Comparison, Wanted, in_turns
from benchmarks.drawings import drawings, stored
from benchmarks.host_path import bare_store
from benchmarks.rig import BUCKET, SMALL_ENGINE, Rig, rig
from deploy.demo.processes import running
from worker.detector.description import vlm_only
from worker.detector.detector import warm_up
from worker.detector.engine import Engine
from worker.detector.vlm import VlmDetector
from worker.images import decode
from worker.messages import MAX_IMAGES, ImageRef

ROUNDS = 3
IMAGES = 160
BATCH = 32
"""The batch size of the authors' loop."""
TASKS = 32
"""Images per round of the reference with one task per image."""

Measure = Callable[[], float]


def compare(wanted: Wanted) -> Iterator[Comparison]:
    """Compares images per second with each reference. Only one of them works at a time, in turns."""
    references = {"engine": (_engine, 0.95), "authors": (_authors, 2.0), "task_per_image": (_task_per_image, 3.0)}
    chosen = {name: made for name, made in references.items() if wanted(f"end_to_end.{name}")}
    if not chosen:
        return
    files = drawings(IMAGES)
    with rig() as services, services.worker(["worker"], SMALL_ENGINE):
        turns = stored(services, "sweep", files, (ROUNDS + 1) * len(chosen))
        for name, (made, target) in chosen.items():
            with ExitStack() as stack:
                reference = made(stack, services, files)
                _rate_of_worker(services, next(turns))  # for everything that is made on first use
                ours, theirs = in_turns(lambda: _rate_of_worker(services, next(turns)), reference, ROUNDS)
            yield Comparison(f"end_to_end.{name}", "images/s", ours, theirs, target, higher_is_better=True)


def _rate_of_worker(services: Rig, refs: Sequence[ImageRef]) -> float:
    return len(refs) / services.sweep(refs)


def _engine(stack: ExitStack, _services: Rig, files: list[bytes]) -> Measure:
    """Calls our engine as the worker's threads call it. The images are ready, and all are let in at once."""
    engine = stack.enter_context(closing(small_engine()))
    squares = [decode(file) for file in files]
    messages = [squares[start : start + MAX_IMAGES] for start in range(0, len(squares), MAX_IMAGES)]

    def rate() -> float:
        started = time.perf_counter()
        with ThreadPoolExecutor(len(messages)) as threads:
            answers = [answer for some in threads.map(engine.complete, messages) for answer in some]
        if any(isinstance(answer, Exception) for answer in answers):
            raise SystemExit(f"the engine refused images: {answers}")
        return len(files) / (time.perf_counter() - started)

    return rate


def small_engine() -> Engine:
    """Starts vLLM with the demo detector and the settings of SMALL_ENGINE, in this process."""
    os.environ |= SMALL_ENGINE
    from worker.detector.loading import load_description  # noqa: PLC0415
    from worker.detector.start import start_engine  # noqa: PLC0415 - vLLM reads the environment at import
    from worker.detector.supply import supply  # noqa: PLC0415
    from worker.settings import Settings  # noqa: PLC0415

    settings = Settings(scan_images_in_engine=10_000)
    description, folder = supply(vlm_only(load_description(settings), "this benchmark"), settings)
    engine = start_engine(description, folder, settings)
    warm_up(VlmDetector(engine, description))
    return engine


def plain_llm() -> tuple[Any, Any, str]:
    """Returns vLLM's own synchronous LLM on the demo detector, sampling with complete answers, and the prompt.

    vLLM's caches are off: every round has the same images, but in a real sweep hardly any image comes twice.
    """
    os.environ |= SMALL_ENGINE
    from vllm import LLM, SamplingParams  # noqa: PLC0415 - reads the environment at import

    llm = LLM(
        model=str(DEMO_DETECTOR), dtype="float32", max_model_len=800, max_num_seqs=64, gpu_memory_utilization=0.2,
        enforce_eager=True, enable_prefix_caching=False, mm_processor_cache_gb=0,
    )  # fmt: skip
    return llm, SamplingParams(temperature=0, max_tokens=64), "<image>Does the image looks real/fake?"


def _authors(_stack: ExitStack, services: Rig, files: list[bytes]) -> Measure:
    llm, sampling, prompt = plain_llm()
    store = bare_store(services)
    refs = services.store({f"authors/{number:06d}": file for number, file in enumerate(files)})

    def rate() -> float:
        started = time.perf_counter()
        for start in range(0, len(refs), BATCH):
            images = [_opened(store, ref) for ref in refs[start : start + BATCH]]
            inputs = [{"prompt": prompt, "multi_modal_data": {"image": image}} for image in images]
            llm.generate(inputs, sampling, use_tqdm=False)
        return len(refs) / (time.perf_counter() - started)

    return rate


def _opened(store: Any, ref: ImageRef) -> Image.Image:
    data = store.get(ref.uri.removeprefix(f"s3://{BUCKET}/")).bytes()
    return Image.open(io.BytesIO(memoryview(data))).convert("RGB")


def _task_per_image(stack: ExitStack, services: Rig, files: list[bytes]) -> Measure:
    from benchmarks.task_per_image import CREATE, READY, publish  # noqa: PLC0415 - declares a Celery app

    log = services.folder / "task_per_image.log"
    command = [sys.executable, "-m", "benchmarks.task_per_image"]
    with psycopg.connect(services.database_url, autocommit=True) as connection:
        connection.execute(CREATE)
    worker = running(
        "the worker with one task per image",
        command,
        log,
        lambda _: READY in log.read_text(),
        start_limit_s=300,
        env={**services.environment, **SMALL_ENGINE},
    )
    stack.enter_context(worker)
    refs = services.store({f"tasks/{number:06d}": file for number, file in enumerate(files[:TASKS])})

    def rate() -> float:
        started = time.perf_counter()
        publish([ref.uri for ref in refs])
        with psycopg.connect(services.database_url, autocommit=True) as connection:
            while connection.execute("SELECT count(*) FROM one_by_one").fetchone() != (len(refs),):
                time.sleep(0.05)
            connection.execute("TRUNCATE one_by_one")
        return len(refs) / (time.perf_counter() - started)

    return rate
