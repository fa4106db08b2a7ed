"""A vLLM for GPUs on a machine without one: vLLM's own error does not say what to do."""

import pytest
from vllm.platforms import current_platform
from vllm.platforms.interface import UnspecifiedPlatform

from worker.detector.start import refuse_no_device
from worker.errors import ConfigurationError


def test_a_machine_without_a_gpu_is_refused_with_the_remedy() -> None:
    with pytest.raises(ConfigurationError, match=r"vLLM finds no GPU: .*--gpus all.*fakesweep check"):
        refuse_no_device(UnspecifiedPlatform())
    refuse_no_device(current_platform)
