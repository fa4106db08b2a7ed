"""How long do a worker's processes stay when SIGKILL ends it while it judges? With vLLM and the demo detector.

python -m benchmarks.killed_processes                       a worker alone, 10 times
python -m benchmarks.killed_processes --gpus                `--gpus 0`: the parent, 10 times
python -m benchmarks.killed_processes --gpus --child        `--gpus 0`: the worker that the parent started
"""

import argparse
import time
from typing import Any

from benchmarks.drawings import drawings
from benchmarks.rig import SMALL_ENGINE, Rig, rig
from benchmarks.scratch import write_result
from tests.processes import living

LIMIT_S = 60
IMAGES = 400
"""The images of the scan: more than a worker judges before it is killed."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--gpus", action="store_true")
    parser.add_argument("--child", action="store_true")
    options = parser.parse_args()
    if options.child and not options.gpus:
        parser.error("--child needs --gpus")
    with rig() as services:
        kills = []
        for number in range(options.kills):
            kills.append(_kill(services, number, gpus=options.gpus, child=options.child))
            print(kills[-1], flush=True)
    worst = max(kill["seconds"] for kill in kills)
    result = {"processes": kills[0]["processes"], "kills": len(kills), "worst_seconds": worst, "each": kills}
    name = "killed_child" if options.child else "killed_parent" if options.gpus else "killed_alone"
    write_result(name, result)


def _kill(services: Rig, number: int, *, gpus: bool, child: bool) -> dict[str, Any]:
    """Kills a worker that judges. Returns how many processes it had, and after how many seconds all had ended."""
    services.empty_queues()
    files = drawings(50)
    refs = services.store({f"{n}": files[n % 50] + b"%d %d" % (number, n) for n in range(IMAGES)})
    module = ["producers", "worker", "--gpus", "0"] if gpus else ["worker"]
    with services.worker(module, SMALL_ENGINE) as worker:
        family = worker.children(recursive=True)
        scan = services.start_scan(refs)
        while not services.progress(scan)[0]:
            time.sleep(0.05)
        killed = family[0] if child else worker
        watched = [*killed.children(recursive=True), killed]
        started = time.monotonic()
        killed.kill()
        while living(watched) and time.monotonic() < started + LIMIT_S:
            time.sleep(0.02)
        seconds, left = time.monotonic() - started, living(watched)
        if child:
            worker.kill()
    for process in [*left, *living(family)]:
        process.kill()
    judged, done = services.progress(scan)
    return {"processes": len(watched), "seconds": round(seconds, 2), "left": len(left), "judged": judged, "done": done}


if __name__ == "__main__":
    main()
