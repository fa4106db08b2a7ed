"""vLLM's engine core: the process that holds the model and the GPU. It ends with the process that started it."""

from typing import Any

from vllm.v1.engine.core import EngineCoreProc

from worker.detector.with_parent import end_with_parent

_vllms_own = EngineCoreProc.run_engine_core


def let_core_end_with_us() -> None:
    """Makes sure that the engine core is killed when this process ends, also by SIGKILL. Call it before vLLM starts.

    Without this, vLLM leaves the core behind. The core waits for work for ever and keeps the memory of the GPU, so the
    next worker cannot start (vLLM issue 55510).
    """
    EngineCoreProc.run_engine_core = staticmethod(run_engine_core)


def run_engine_core(*args: Any, **options: Any) -> None:
    """Runs vLLM's engine core, as EngineCoreProc.run_engine_core does, in a process that ends with its parent."""
    end_with_parent()
    _vllms_own(*args, **options)
