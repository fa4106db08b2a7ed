"""Producers run where there is no GPU: importing them loads neither torch nor vllm."""

import subprocess
import sys

HEAVY = ("torch", "vllm", "transformers", "torchvision")


def test_the_command_line_loads_nothing_heavy() -> None:
    code = f"import sys, producers.__main__; print([name for name in {HEAVY} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"
