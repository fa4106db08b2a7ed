"""The arguments with which vLLM starts."""

from pathlib import Path

from vllm import AsyncEngineArgs
from vllm.platforms import current_platform

from worker.detector.admission import step_tokens
from worker.detector.description import VlmDescription
from worker.settings import Settings


def engine_args(description: VlmDescription, folder: Path, settings: Settings) -> AsyncEngineArgs:
    """Returns vLLM's arguments. Both caches are off: the image comes first, so unique images share no prefix."""
    limits = description.engine
    return AsyncEngineArgs(
        model=str(folder),
        dtype=limits.dtype,
        quantization=limits.quantization,
        kv_cache_dtype=limits.kv_cache_dtype,
        max_model_len=limits.max_model_len,
        max_num_seqs=settings.max_num_seqs,
        max_num_batched_tokens=step_tokens(settings, on_cpu=current_platform.is_cpu()),
        gpu_memory_utilization=settings.gpu_memory_utilization,
        limit_mm_per_prompt={"image": 1, "video": 0, "audio": 0},
        enable_prefix_caching=False,
        mm_processor_cache_gb=0,
        scheduling_policy="priority",
        enforce_eager=limits.enforce_eager,
        seed=0,
    )
