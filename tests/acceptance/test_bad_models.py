"""A worker that is given a bad model ends at once with one clear line and exit code 2."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.acceptance.test_service import environment_for
from tests.processes import fakesweep
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
"""Of those in tests.unit.bad_models."""
DEAR = ("unknown architecture", "too large", "no tensor")
"""Likewise; only with vLLM imported, or after it."""
AT_ONCE = 2
LIMIT_S = 120
"""For one worker; on two idle cores it is 4 s, or 15 s where vLLM has to be imported to know."""


def _refused(environment: dict[str, str], cause: str, remedy: str) -> str:
    done = fakesweep("worker", environment=environment, timeout_s=LIMIT_S)
    lines = done.stderr.splitlines()
    assert done.returncode == 2, done.stderr
    assert re.fullmatch(rf"fakesweep worker: FAKESWEEP_MODEL: [^;]*{cause}.*; [^;]*{remedy}.*", lines[-1]), lines[-1]
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    for line in lines[:-1]:
        assert json.loads(line)["level"] in {"info", "warning"}, line
    return done.stderr


@pytest.mark.timeout(900)
def test_a_bad_model_folder_is_one_line_and_exit_code_2(
    database_url: str, clean_redis_url: str, tmp_path: Path
) -> None:
    environment = environment_for(database_url, clean_redis_url)

    def refused(way: str) -> None:
        model = {"FAKESWEEP_MODEL": str(broken(way, tmp_path))}
        said = _refused(environment | model, BAD[way].cause, BAD[way].remedy)
        assert way in DEAR or '"logger": "vllm' not in said, "vLLM was imported for what the files alone show"

    with ThreadPoolExecutor(AT_ONCE) as pool:
        running = {way: pool.submit(refused, way) for way in WAYS + DEAR}
        faults = {way: error for way, future in running.items() if (error := future.exception())}
    assert not faults


def test_a_checksum_that_differs(database_url: str, clean_redis_url: str, tmp_path: Path) -> None:
    folder = copied(tmp_path)
    text = (folder / "detector.toml").read_text(encoding="utf-8").partition("[checksums]")[0]
    (folder / "detector.toml").write_text(f'{text}[checksums]\n"model.safetensors" = "{"0" * 64}"\n', encoding="utf-8")
    environment = environment_for(database_url, clean_redis_url) | {"FAKESWEEP_DETECTOR": str(folder)}
    _refused(environment, "model.safetensors has the SHA-256", r"fetch the model again, or correct \[checksums\]")
