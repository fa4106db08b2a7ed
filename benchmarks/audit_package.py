"""Does memory stay bounded when a package of 10^6 findings is built and verified? And is each of 500 changes noticed?

python -m benchmarks.audit_package [--findings 1000000] [--changes 500]

Each of the two steps runs in a process of its own, whose peak memory is that of the system (VmHWM). A change counts as
noticed if `verify` names its place, and if the verifier of the tests, written from the document alone, refuses it, too.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from uuid import UUID

from benchmarks.load_findings import KnownImages, load
from benchmarks.scratch import know_images, scratch_database, write_result
from producers.audit.building import build
from producers.audit.selection import Selection
from producers.audit.signing import Signer, make_key, signer_with
from producers.audit.verifying import verify
from tests.audit_verifier import check
from tests.packages import changes, scanned
from worker.database import connect
from worker.database.detectors import register_detector
from worker.errors import PackageDoubtError
from worker.testing import scripted_description


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--findings", type=int, default=1_000_000)
    parser.add_argument("--changes", type=int, default=500)
    parser.add_argument("--step", nargs="+", help="for the processes that this one starts")
    options = parser.parse_args()
    if options.step:
        _step(*options.step)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_key(folder / "key")
        changed = _changes(folder, options.changes)
        large = {count: _large(folder, count) for count in (options.findings // 10, options.findings)}
    write_result("audit_package", {"changes": changed, "packages": large})
    if changed["missed"]:
        sys.exit(f"{len(changed['missed'])} changes were not noticed, or their place was not named")


def _changes(folder: Path, number: int) -> dict[str, Any]:
    """Builds a small package, changes it again and again, and verifies each."""
    signer, whole, path = signer_with(folder / "key"), folder / "small.zip", folder / "changed.zip"
    with scratch_database() as (_, database):
        build(database, Selection(scan_id=scanned(database).id), signer, whole)
    verify(whole, signer.public)
    check(whole.read_bytes(), signer.public)
    missed = []
    for change in changes(whole.read_bytes(), number, seed=2):
        path.write_bytes(change.package)
        said = _said(path, signer)
        if said is None or not any(place in said for place in change.places) or not _refused(change.package, signer):
            missed.append({"what": change.what, "said": said})
    print(f"{number} changes: {len(missed)} missed", flush=True)
    return {"number": number, "missed": missed}


def _said(path: Path, signer: Signer) -> str | None:
    try:
        verify(path, signer.public)
    except PackageDoubtError as error:
        return str(error)
    return None


def _refused(package: bytes, signer: Signer) -> bool:
    try:
        check(package, signer.public)
    except Exception:  # noqa: BLE001 - whatever goes wrong is a doubt
        return True
    return False


def _large(folder: Path, findings: int) -> dict[str, Any]:
    """Builds and verifies a package of a scan of this many known images, each with a verdict of its own."""
    package = folder / "large.zip"
    with scratch_database() as (url, database):
        know_images(url, register_detector(database, scripted_description().row()), findings)
        _, scan_id = load(database, KnownImages(findings))
        built = _measured("build", url, scan_id, folder / "key", package)
    figures = {"bytes": package.stat().st_size, "build": built, "verify": _measured("verify", package, folder / "key")}
    print(f"{findings} findings: {figures}", flush=True)
    return figures


def _measured(*step: object) -> dict[str, float]:
    started = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.audit_package", "--step", *map(str, step)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return {"seconds": round(time.perf_counter() - started, 1), "peak_mib": int(output) // 1024}


def _step(step: str, *arguments: str) -> None:
    """Builds or verifies, and prints this process's peak memory in KiB."""
    if step == "build":
        url, scan_id, key, package = arguments
        build(connect(url), Selection(scan_id=UUID(scan_id)), signer_with(Path(key)), Path(package))
    else:
        package, key = arguments
        verify(Path(package), signer_with(Path(key)).public)
    status = Path("/proc/self/status").read_text()
    print(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


if __name__ == "__main__":
    main()
