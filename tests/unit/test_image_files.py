"""The files for images follow the rules of deploy/images/README.md. No image is built."""

import os
import re
import shutil
import subprocess
import sysconfig
import tomllib
from pathlib import Path

import pytest
from dockerfile_parse import DockerfileParser

from deploy.images.lock import locks
from tests.documents import ROOT

FOLDER = ROOT / "deploy" / "images"
DOCKERFILES = sorted(FOLDER.glob("*.Dockerfile"))
COMPILES = re.compile(r"\b(gcc|g\+\+|cc|tcc|clang|make|build-essential|python3-dev|python3-pip|pip|cython)\b")


def stages(path: Path) -> list[list[tuple[str, str]]]:
    """Returns the instructions of each stage."""
    found: list[list[tuple[str, str]]] = []
    with path.open("rb") as file:
        for one in DockerfileParser(fileobj=file).structure:
            if one["instruction"] == "FROM":
                found.append([])
            if found and one["instruction"] != "COMMENT":
                found[-1].append((one["instruction"], one["value"]))
    return found


def what_runs(path: Path) -> dict[str, str]:
    """Returns the last value of each instruction in the first and the last stage, which become the image."""
    first, *_, last = stages(path)
    assert last[0] == ("FROM", "base")
    return dict([*first, *last])


def test_there_are_three_images() -> None:
    assert [path.stem for path in DOCKERFILES] == ["demo", "fakesweep", "worker"]
    assert {lock.image for lock in locks()} == {path.stem for path in DOCKERFILES}


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_hadolint_finds_nothing(path: Path) -> None:
    hadolint = shutil.which("hadolint", path=f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}")
    assert hadolint, "hadolint is missing: make install"
    command: list[str | Path] = [hadolint, "--config", FOLDER / "hadolint.yaml", "--no-color", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_an_image_runs_as_a_user_under_tini(path: Path) -> None:
    said = what_runs(path)
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", said["USER"])
    assert said["ENTRYPOINT"].startswith('["/usr/bin/tini", "--"')
    assert said["STOPSIGNAL"] == "SIGTERM"
    assert "HEALTHCHECK" in said


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_an_image_has_no_compiler_and_has_an_sbom(path: Path) -> None:
    first, *_, last = stages(path)
    for instruction, value in (*first, *last):
        assert instruction != "RUN" or not COMPILES.search(value), value
        assert instruction != "ADD"
    assert ("COPY", "--from=build /build/sbom /usr/share/sbom") in last


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_no_program_runs_with_the_rights_of_its_owner(path: Path) -> None:
    first, *_ = stages(path)
    parts = [part.strip() for instruction, value in first if instruction == "RUN" for part in value.split("&&")]
    removes = parts.index("find / -xdev -type f -perm /6000 -exec chmod a-s {} +")
    assert not [part for part in parts[removes:] if "apt-get" in part]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_all_packages_are_installed_by_hash(path: Path) -> None:
    runs = [value for stage in stages(path) for instruction, value in stage if instruction == "RUN"]
    commands = [part for value in runs for part in value.split("&&") if re.search(r"pip\b.* (install|wheel) ", part)]
    commands = [command for command in commands if "apt-get" not in command]
    assert len(commands) >= 4
    for command in commands:
        assert "--no-deps" in command
        assert "--require-hashes" in command or "--no-index" in command, command


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_apt_leaves_neither_its_lists_nor_its_caches(path: Path) -> None:
    runs = [value for stage in stages(path) for instruction, value in stage if instruction == "RUN"]
    installs = [value for value in runs if "apt-get" in value]
    assert installs
    for value in installs:
        assert "rm -rf /var/cache/apt/* /var/lib/apt/lists/*" in value


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_what_is_copied_exists_and_is_sent_to_the_builder(path: Path) -> None:
    sent = [line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0] == "!"]
    for value in (value for stage in stages(path) for instruction, value in stage if instruction == "COPY"):
        if value.startswith("--from="):
            continue
        for source in value.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert any(source == one or source.startswith(f"{one}/") for one in sent), source


def test_the_demo_asks_torch_to_compile_nothing() -> None:
    said = what_runs(FOLDER / "demo.Dockerfile")
    assert "TORCHDYNAMO_DISABLE=1" in said["ENV"].split()


def build(folder: Path, *names: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Runs build.sh with a docker and a buildah that only print what they are asked."""
    for name in ("docker", "buildah"):
        builder = folder / name
        builder.write_text(f'#!/bin/sh\nprintf "{name}"; printf " %s" "$@"; echo\n')
        builder.chmod(0o755)
    own = {"PATH": f"{folder}:/usr/bin:/bin"} | environment
    return subprocess.run([FOLDER / "build.sh", *names], env=own, capture_output=True, text=True, check=False)


def test_build_sh_builds_what_is_named(tmp_path: Path) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    label = f"--label org.opencontainers.image.version={version}"
    done = build(tmp_path)
    assert done.stdout.splitlines() == [
        f"docker build {label} --file deploy/images/fakesweep.Dockerfile --tag fakesweep:{version} .",
        f"docker build {label} --file deploy/images/demo.Dockerfile --tag fakesweep-demo:{version} .",
        f"docker build {label} --file deploy/images/worker.Dockerfile --tag fakesweep-worker:{version} .",
    ]
    given = {"BASE": "b@sha256:1", "TORCH_INDEX": "t", "REPOSITORY": "r/", "VERSION": "2", "BUILD_OPTIONS": "--pull -q"}
    done = build(tmp_path, "demo", BUILDER="buildah", **given)
    assert done.stdout == (
        "buildah build --format docker --pull -q --build-arg BASE=b@sha256:1 --build-arg TORCH_INDEX=t"
        " --label org.opencontainers.image.version=2 --file deploy/images/demo.Dockerfile --tag r/fakesweep-demo:2 .\n"
    )


def test_build_sh_says_what_it_does_not_know(tmp_path: Path) -> None:
    for done, said in (
        (build(tmp_path, "fakesweep", "wrong"), "there is no image wrong"),
        (build(tmp_path, BUILDER="kaniko"), "BUILDER is kaniko"),
    ):
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr


def test_triton_gets_the_only_file_that_it_compiles(tmp_path: Path) -> None:
    compiler = tmp_path / "bin" / "triton-cc"
    compiler.parent.mkdir()
    compiler.write_bytes((FOLDER / "triton-cc").read_bytes())
    compiler.chmod(0o755)
    driver = tmp_path / "lib/python3.11/site-packages/triton/backends/nvidia"
    driver.mkdir(parents=True)
    (driver / "driver.c").write_text("int driver;")
    (driver / "driver.c.so").write_text("compiled")
    source, output = tmp_path / "cuda_utils.c", tmp_path / "cuda_utils.so"
    command: list[str | Path] = [
        compiler,
        source,
        "-O3",
        "-shared",
        "-fPIC",
        "-o",
        output,
        "-l:libcuda.so.1",
        "-Iinclude",
    ]
    source.write_text("int driver;")
    subprocess.run(command, check=True)
    assert output.read_text() == "compiled"
    output.unlink()
    source.write_text("int something_else;")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"{source} was not compiled" in done.stderr
    assert not output.exists()
