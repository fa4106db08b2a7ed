"""A worker that is given a bad model ends at once with one clear line and exit code 2."""

import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
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
STARTED = ("no folder", "half")
"""The two of them that a worker is started with. All differ in what `inspect` says, but a worker treats all alike."""
SLOW = ("unknown architecture", "too large", "no tensor")
"""A worker is started with these too. They are only found when vLLM is imported, or later."""
AT_ONCE = 2
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


@pytest.mark.timeout(900)
def test_a_bad_model_folder_gives_one_line_and_exit_code_2(
    database_url: str, clean_redis_url: str, tmp_path: Path
) -> None:
    environment = environment_for(database_url, clean_redis_url)

    def refused(way: str) -> None:
        model = {"FAKESWEEP_MODEL": str(broken(way, tmp_path))}
        _refused(environment | model, BAD[way].cause, BAD[way].remedy)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        running = {way: pool.submit(refused, way) for way in STARTED + SLOW}
        faults = {way: error for way, future in running.items() if (error := future.exception())}
    assert not faults


INSPECTING = """
import sys
from worker.detector.supply import load_description, supply
from worker.errors import ConfigurationError
from worker.settings import Settings

detector, *models = sys.argv[1:]
for model in models:
    settings = Settings(detector=detector, model=model)
    try:
        supply(load_description(settings), settings)
    except ConfigurationError as error:
        print(error)
    assert "vllm" not in sys.modules, model
"""


def test_faults_that_the_files_show_are_named_without_vllm(tmp_path: Path) -> None:
    models = [str(broken(way, tmp_path)) for way in WAYS]
    done = subprocess.run(
        [sys.executable, "-c", INSPECTING, str(DEMO_DETECTOR), *models],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for way, line in zip(WAYS, done.stdout.splitlines(), strict=True):
        assert re.fullmatch(rf"FAKESWEEP_MODEL: [^;]*{BAD[way].cause}.*; [^;]*{BAD[way].remedy}.*", line), line


def test_a_checksum_that_differs(database_url: str, clean_redis_url: str, tmp_path: Path) -> None:
    folder = copied(tmp_path)
    text = (folder / "detector.toml").read_text(encoding="utf-8").partition("[checksums]")[0]
    (folder / "detector.toml").write_text(f'{text}[checksums]\n"model.safetensors" = "{"0" * 64}"\n', encoding="utf-8")
    environment = environment_for(database_url, clean_redis_url) | {"FAKESWEEP_DETECTOR": str(folder)}
    _refused(environment, "model.safetensors has the SHA-256", r"fetch the model again, or correct \[checksums\]")
