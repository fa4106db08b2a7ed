"""What importing producers and the worker loads. Producers run without a GPU, and a worker's image has no packages for
training.

What a command loads when it runs is in `tests/integration/test_light_commands.py`.
"""

import os
import subprocess
import sys
from importlib import import_module

import pytest
from typer.main import get_group

from producers.commands.lazy import COMMANDS
from tests.loading import FOR_ARGUMENTS, FOR_HELP, loaded_by

HEAVY = ("torch", "vllm", "transformers", "torchvision")
PAPERS_SIDE = ("sklearn", "scipy", "matplotlib", "peft", "accelerate", "sentence_transformers", "openai", "tomlkit")


def test_a_worker_loads_nothing_of_the_lab() -> None:
    unwanted = (*PAPERS_SIDE, "worker.lab")
    code = f"import sys, worker.__main__; print([name for name in {unwanted} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


@pytest.mark.parametrize("module", ["producers.nightly.nightly", "producers.listening.listen", "producers.publishing"])
def test_a_producer_without_metrics_does_not_load_prometheus(module: str) -> None:
    code = f"import sys, {module}; print('prometheus_client' in sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "False"


def test_the_help_of_fakesweep_loads_no_command() -> None:
    assert loaded_by(["--help"]) <= FOR_HELP


def test_the_help_of_a_command_loads_only_what_its_options_need() -> None:
    assert loaded_by(*([name, "--help"] for name in COMMANDS)) <= FOR_HELP | FOR_ARGUMENTS


def test_a_missing_setting_of_a_worker_is_reported_before_its_parts_are_loaded() -> None:
    loaded = loaded_by(["worker"], environment=os.environ | {"DATABASE_URL": ""}, codes=(2,))
    assert not loaded & {"celery", "kombu", "boto3", "PIL", "numpy", *HEAVY}


def test_the_table_of_commands_equals_the_modules() -> None:
    told = {}
    for module in dict.fromkeys(module for module, _ in COMMANDS.values()):
        for name, command in get_group(import_module(f"producers.commands.{module}").app).commands.items():
            first = (command.help or "").partition("\n\n")[0].replace("\n", " ")
            told[name] = (module, None if command.hidden else first)
    assert list(COMMANDS.items()) == list(told.items())


def test_every_option_and_argument_has_a_help_text() -> None:
    without = [
        f"{name} {param.name}"
        for module in dict.fromkeys(module for module, _ in COMMANDS.values())
        for name, command in get_group(import_module(f"producers.commands.{module}").app).commands.items()
        for param in command.params
        if not getattr(param, "help", None)
    ]
    assert without == []
