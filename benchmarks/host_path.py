"""How much CPU time does a worker need per image without the engine? From the queue to the committed row.

The worker is a process of its own on real RabbitMQ, Postgres and S3, with an engine without costs. The reference is a
bare loop that only gets the image with obstore, and decodes and resizes it with Pillow.
"""

import io
import time
from collections.abc import Iterator, Sequence

import psutil
from obstore.store import S3Store
from PIL import Image

from benchmarks.comparison import Comparison, Wanted, in_turns
from benchmarks.pictures import files
from benchmarks.rig import BUCKET, Rig, rig
from worker.messages import ImageRef

ROUNDS = 3
COUNTS = {("0.3", "jpeg"): 480, ("0.8", "jpeg"): 240, ("3", "jpeg"): 96, ("12", "jpeg"): 32, ("0.3", "png"): 240}
"""Images per round, by megapixels and format."""
TARGET = 1.3
EDGE = 336


def compare(wanted: Wanted) -> Iterator[Comparison]:
    """Compares our CPU seconds per image with those of the bare loop."""
    chosen = {kind: count for kind, count in COUNTS.items() if wanted(_name(kind))}
    if not chosen:
        return
    with rig() as services, services.worker(["benchmarks.costless_worker"], {}) as worker:
        store = bare_store(services)
        services.sweep(services.store(files("0.3", "jpeg", 160, seed=99)))  # for everything that is made on first use
        for kind, count in chosen.items():
            rounds = iter([services.store(files(*kind, count, seed=number)) for number in range(2 * ROUNDS)])
            ours, bare = in_turns(
                lambda rounds=rounds: _cost_of_worker(services, worker, next(rounds)),  # type: ignore[misc]
                lambda rounds=rounds: _cost_of_loop(store, next(rounds)),  # type: ignore[misc]
                ROUNDS,
            )
            yield Comparison(_name(kind), "CPU seconds per image", ours, bare, TARGET, higher_is_better=False)


def _name(kind: tuple[str, str]) -> str:
    return f"host_path.{kind[0]}.{kind[1]}"


def _cost_of_worker(services: Rig, worker: psutil.Process, refs: Sequence[ImageRef]) -> float:
    before = sum(worker.cpu_times()[:2])
    services.sweep(refs)
    return (sum(worker.cpu_times()[:2]) - before) / len(refs)


def _cost_of_loop(store: S3Store, refs: Sequence[ImageRef]) -> float:
    before = time.process_time()
    for ref in refs:
        bare_square(store, ref.uri)
    return (time.process_time() - before) / len(refs)


def bare_store(services: Rig) -> S3Store:
    """Returns obstore's store for the rig's bucket."""
    return S3Store(
        BUCKET, endpoint=services.endpoint, access_key_id="benchmark", secret_access_key="benchmark",
        region="us-east-1", client_options={"allow_http": True}, virtual_hosted_style_request=False,
    )  # fmt: skip


def bare_square(store: S3Store, uri: str) -> Image.Image:
    """Gets, decodes, resizes the shortest edge to 336 and crops the centre: every loop with FakeVLM must do this."""
    data = store.get(uri.removeprefix(f"s3://{BUCKET}/")).bytes()
    with Image.open(io.BytesIO(memoryview(data))) as image:
        whole = image.convert("RGB")
    short = min(whole.size)
    width, height = (round(edge * EDGE / short) for edge in whole.size)
    grown = whole.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - EDGE) // 2, (height - EDGE) // 2
    return grown.crop((left, top, left + EDGE, top + EDGE))
