"""Producers run where there is no GPU, and a worker image needs nothing of training: what importing them loads."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "vllm", "transformers", "torchvision")
PAPERS_SIDE = ("sklearn", "scipy", "matplotlib", "peft", "accelerate", "sentence_transformers", "openai", "tomlkit")


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("producers.__main__", (*HEAVY, *PAPERS_SIDE)),
        ("worker.__main__", (*PAPERS_SIDE, "worker.lab")),
    ],
)
def test_nothing_is_loaded_that_the_process_does_not_need(module: str, unwanted: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print([name for name in {unwanted} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"
