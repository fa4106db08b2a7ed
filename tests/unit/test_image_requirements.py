"""The images' requirements name everything that they install, with its version and hash. Nothing is downloaded."""

import re
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, distribution
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy.images.lock import FROM_SOURCE, REQUIREMENTS, Lock, constraints_of, locks
from tests.documents import ROOT

LOCKS = locks()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SHA256 = re.compile(r"sha256:[0-9a-f]{64}")
PYTHON = {
    "python_version": "3.11",
    "python_full_version": "3.11.2",
    "sys_platform": "linux",
    "platform_machine": "x86_64",
}
"""The images' Python, whichever runs the tests."""
NOT_TESTED = {"async-timeout"}
"""redis asks for it before Python 3.11.3."""


class Pin(NamedTuple):
    """What a line of the requirements installs, and the hashes that its file may have."""

    requirement: Requirement
    hashes: list[str]

    @property
    def version(self) -> str:
        """The version, with the name of its build, such as 2.13.0+cpu."""
        (one,) = self.requirement.specifier
        return one.version


def locked(name: str) -> dict[str, Pin]:
    """The lines of a file, by the name of the package."""
    pins: dict[str, Pin] = {}
    text = (REQUIREMENTS / f"{name}.txt").read_text(encoding="utf-8").replace("\\\n", " ")
    for line in text.splitlines():
        if line and not line.startswith("#"):
            requirement, *hashes = (part.strip() for part in line.split(" --hash="))
            pin = Pin(Requirement(requirement), hashes)
            pins[canonicalize_name(pin.requirement.name)] = pin
    return pins


def asked_by(requirement: Requirement) -> Iterator[Requirement]:
    """What the package asks for, with the extras in `requirement`. Nothing if it is not installed here."""
    try:
        texts = distribution(requirement.name).requires or []
    except PackageNotFoundError:
        return
    for one in map(Requirement, texts):
        if one.marker is None or any(
            one.marker.evaluate(PYTHON | {"extra": extra}) for extra in {"", *requirement.extras}
        ):
            yield one


def with_what_they_ask_for(asked: Iterable[Requirement]) -> Iterator[tuple[Requirement, str]]:
    """The requirements, those of their packages, and so on. Each with who asks for it."""
    waiting = [(one, "pyproject.toml") for one in asked]
    met: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        one, by = waiting.pop()
        yield one, by
        key = canonicalize_name(one.name), frozenset(one.extras)
        if key not in met:
            met.add(key)
            waiting += [(other, one.name) for other in asked_by(one)]


@pytest.mark.parametrize("name", ["build", "compiled", *(lock.image for lock in LOCKS)])
def test_every_line_has_one_version_and_its_hashes(name: str) -> None:
    pins = locked(name)
    assert pins
    for requirement, hashes in pins.values():
        assert [one.operator for one in requirement.specifier] == ["=="], requirement
        assert "*" not in str(requirement.specifier), requirement
        assert hashes, requirement
        assert all(map(SHA256.fullmatch, hashes)), requirement


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.image)
def test_an_image_has_the_versions_that_the_tests_ran_with(lock: Lock) -> None:
    tested = dict(line.split("==") for line in constraints_of(lock) if "==" in line)
    tested = {canonicalize_name(name): version for name, version in tested.items()}
    for name, pin in locked(lock.image).items():
        version = pin.version.partition("+")[0]
        assert tested.get(name, version) == version, f"{name}: run make lock"
    if not lock.pins:
        assert set(locked(lock.image)) - set(tested) == NOT_TESTED


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.image)
def test_an_image_has_what_its_packages_ask_for(lock: Lock) -> None:
    """pip installs them with --no-deps, so that nothing else would notice a package that is missing."""
    asked = [
        *PROJECT["dependencies"],
        *(one for extra in lock.extras for one in PROJECT["optional-dependencies"][extra]),
    ]
    there = locked(lock.image) | locked("compiled")
    for one, by in with_what_they_ask_for(map(Requirement, asked)):
        pin = there.get(canonicalize_name(one.name))
        assert pin, f"{by} asks for {one}: run make lock"
        if canonicalize_name(one.name) not in lock.freed:
            assert one.specifier.contains(pin.version), f"{by} asks for {one}, not for {pin.version}: run make lock"


def test_the_small_image_has_neither_torch_nor_a_compiled_package() -> None:
    names = set(locked("fakesweep"))
    assert {"fastapi", "pyarrow"} <= names
    assert not names & {"torch", "vllm", "transformers", FROM_SOURCE}
