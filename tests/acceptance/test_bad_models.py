"""A worker that is given a bad model ends at once with one clear line and exit code 2."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.test_service import environment_for
from tests.conftest import DEMO_DETECTOR
from tests.processes import ROOT, fakesweep
from tests.unit.bad_models import BAD, broken, copied

WAYS = (
    "no folder",
    "no config",
    "config no JSON",
    "no weights",
    "pickled",
    "no shard",
    "half",
    "pointer",
    "a page",
    "no tokenizer",
    "text only",
)
"""The faults in tests.unit.bad_models that the files alone show."""
SLOW = ("unknown architecture", "too large", "no tensor")
"""Faults that are only found when vLLM is imported, or later."""
LIMIT_S = 120
"""For one worker. On two idle cores it takes 4 s, or 15 s where vLLM must be imported to find the fault."""


def _refused(environment: dict[str, str], cause: str, remedy: str) -> None:
    done = fakesweep("worker", environment=environment, timeout_s=LIMIT_S)
    lines = done.stderr.splitlines()
    assert done.returncode == 2, done.stderr
    assert re.fullmatch(rf"fakesweep worker: FAKESWEEP_MODEL: [^;]*{cause}.*; [^;]*{remedy}.*", lines[-1]), lines[-1]
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    for line in lines[:-1]:
        assert json.loads(line)["level"] in {"info", "warning"}, line


def test_a_bad_model_folder_gives_one_line_and_exit_code_2(
    database_url: str, clean_redis_url: str, tmp_path: Path
) -> None:
    """With one fault: `inspect` names each fault in its own words, but a worker treats all of them alike."""
    environment = environment_for(database_url, clean_redis_url) | {"FAKESWEEP_MODEL": str(broken("half", tmp_path))}
    _refused(environment, BAD["half"].cause, BAD["half"].remedy)


INSPECTING = """
import sys
from worker import telemetry
from worker.detector.loading import load_description
from worker.detector.supply import supply
from worker.errors import ConfigurationError
from worker.settings import Settings

detector, *models = sys.argv[1:]
telemetry.configure_logging(Settings())
for model in models:
    settings = Settings(detector=detector, model=model)
    try:
        supply(load_description(settings), settings)
    except ConfigurationError as error:
        print("with vLLM:" if "vllm" in sys.modules else "without vLLM:", error)
"""


@pytest.mark.timeout(600)
def test_each_fault_is_named_and_vllm_is_imported_only_if_the_files_do_not_show_it(tmp_path: Path) -> None:
    models = [str(broken(way, tmp_path)) for way in WAYS + SLOW]
    done = subprocess.run(
        [sys.executable, "-c", INSPECTING, str(DEMO_DETECTOR), *models],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    imported = ["without vLLM"] * len(WAYS) + ["with vLLM"] * len(SLOW)
    for way, told, line in zip(WAYS + SLOW, imported, done.stdout.splitlines(), strict=True):
        cause, remedy = BAD[way].cause, BAD[way].remedy
        assert re.fullmatch(rf"{told}: FAKESWEEP_MODEL: [^;]*{cause}.*; [^;]*{remedy}.*", line), line


@pytest.mark.timeout(600)
def test_a_checksum_that_differs(database_url: str, clean_redis_url: str, tmp_path: Path) -> None:
    """The last fault of all: a worker has imported vLLM by then, and what it prints is still one line."""
    folder = copied(tmp_path)
    text = (folder / "detector.toml").read_text(encoding="utf-8").partition("[checksums]")[0]
    (folder / "detector.toml").write_text(f'{text}[checksums]\n"model.safetensors" = "{"0" * 64}"\n', encoding="utf-8")
    environment = environment_for(database_url, clean_redis_url) | {"FAKESWEEP_DETECTOR": str(folder)}
    _refused(environment, "model.safetensors has the SHA-256", r"fetch the model again, or correct \[checksums\]")
