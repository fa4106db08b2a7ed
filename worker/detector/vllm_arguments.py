"""How vLLM is started, and how much of a scan it is given at once (docs/decisions/0009)."""

from pathlib import Path

from vllm import AsyncEngineArgs
from vllm.platforms import current_platform

from worker.detector.admission import Admission
from worker.detector.description import DetectorDescription
from worker.settings import Settings

_GPU_STEP_TOKENS, _CPU_STEP_TOKENS = 4096, 800
_IMAGE_TOKENS = 600  # FakeVLM's prompt has 587, an answer of "This is a real image." six more
_STAY_STEPS = 8  # an image's prompt takes one step, and each token of such an answer another one


def step_tokens(settings: Settings) -> int:
    """Tokens that vLLM takes into one step: of prompts and answers together.

    A live image's answer grows by one token a step, so steps are as short as they can be without idle hardware. On a
    GPU that is where more rows no longer make matrix products more efficient. A CPU is busy with a single image.
    """
    return settings.max_num_batched_tokens or (_CPU_STEP_TOKENS if current_platform.is_cpu() else _GPU_STEP_TOKENS)


def admission(settings: Settings) -> Admission:
    """How many images of scans may be in the engine: STAY_STEPS steps' worth, or one step's beside a live image."""
    images_a_step = max(1, step_tokens(settings) // _IMAGE_TOKENS)
    scan_images = settings.scan_images_in_engine or _STAY_STEPS * images_a_step
    return Admission(scan_images, beside_live=min(images_a_step, scan_images))


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
