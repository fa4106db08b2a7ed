"""The driver: `python -m tests.chaos.run --minutes 25 --seed 1 --report build/chaos/report.json`.

Runs rounds on each broker, side by side, until the time is over. Exit code 1 when anything is lost, unexpected, doubled
or wrong, or not settled in time.
"""

import argparse
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from deploy.demo.processes import sigterm_as_interrupt
from tests.chaos import books, report
from tests.chaos.faults import kinds
from tests.chaos.ground import BROKERS, ground
from tests.chaos.rounds import Outcome, Sizes, run_round
from tests.chaos.services import MissingError
from tests.processes import ROOT


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options."""
    sizes = Sizes()
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.run", description=__doc__)
    parser.add_argument("--minutes", type=float, default=25, help="no round starts after this time")
    parser.add_argument("--rounds", type=int, default=10_000, help="at most so many on each broker")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--report", type=Path, default=Path("build/chaos/report.json"))
    parser.add_argument("--brokers", default=",".join(BROKERS), help="a comma list")
    parser.add_argument("--faults", default="", help="only kinds whose names begin with one of these, a comma list")
    parser.add_argument("--images", type=int, default=sizes.images, help="of a round's scan")
    parser.add_argument("--submissions", type=int, default=sizes.submissions, help="of a round")
    parser.add_argument("--storm-s", type=float, default=sizes.storm_s, help="faults last at most so long in a round")
    parser.add_argument("--settle-s", type=float, default=sizes.settle_s, help="then all is settled within so long")
    parser.add_argument("--twice", choices=("alternate", "yes", "no"), default=sizes.twice, help="all messages")
    parser.add_argument("--image-s", type=float, default=0.1, help="an image is so long in the engine")
    parser.add_argument("--fuzz", type=int, default=0, help="also fuzz so many image files")
    parser.add_argument("--part", action="store_true", help="print no table: another process does")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """See the module."""
    options = parse(arguments)
    names = options.brokers.split(",")
    with sigterm_as_interrupt():
        reports = [run_broker(names[0], options)] if len(names) == 1 else side_by_side(names, options, arguments)
        fuzzed = fuzz(options.fuzz, options.seed) if options.fuzz else None
    whole = report.merged(reports, seed=options.seed, **({"fuzz": fuzzed} if fuzzed else {}))
    report.write(options.report, whole)
    if not options.part:
        print(report.table(whole), flush=True)
    if fuzzed:
        print(f"{options.fuzz} damaged image files: {'good' if fuzzed['code'] == 0 else fuzzed['said']}", flush=True)
    return 1 if whole["problems"] or (fuzzed and fuzzed["code"]) else 0


def side_by_side(names: Sequence[str], options: argparse.Namespace, arguments: Sequence[str]) -> list[Any]:
    """A process for each broker. Their reports."""
    started = {}
    for name in names:
        path = options.report.with_name(f"{options.report.stem}-{name}.json")
        path.unlink(missing_ok=True)
        command = [sys.executable, "-m", "tests.chaos.run", *arguments, "--brokers", name, "--report", str(path)]
        started[path] = subprocess.Popen([*command, "--fuzz", "0", "--part"], cwd=ROOT, start_new_session=True)
    try:
        for process in started.values():
            process.wait()
    finally:
        for process in started.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(60)
    return [one for path in started for one in json.loads(path.read_text())["brokers"]]


def run_broker(broker: str, options: argparse.Namespace) -> dict[str, Any]:
    """Rounds on one broker, until the time is over. Its report, which is written after each round too."""
    until = time.monotonic() + options.minutes * 60
    sizes = Sizes(options.images, options.submissions, options.storm_s, options.settle_s, options.twice)
    chance = Random(f"{options.seed} {broker}")
    outcomes: list[Outcome] = []
    try:
        with ground(broker, image_s=options.image_s, keep_logs=options.report.parent / f"logs-{broker}") as made:
            chosen = [one for one in kinds(made) if one.name.startswith(tuple(options.faults.split(",")))]
            while time.monotonic() < until and len(outcomes) < options.rounds:
                outcomes.append(run_round(made, chosen, len(outcomes), chance, sizes))
                exits = sum((worker.exits for worker in made.workers), Counter())
                judged = books.verdicts(made.postgres.url)
                said = report.of_broker(broker, outcomes, made.missing, judged, exits)
                report.write(options.report, report.merged([said], seed=options.seed))
                print(_line(broker, outcomes), flush=True)
                if not outcomes[-1].good:
                    break
    except MissingError as error:
        said = report.of_broker(broker, [], {f"all faults on {broker}": str(error)}, (0, 0), Counter())
    return said


def _line(broker: str, outcomes: Sequence[Outcome]) -> str:
    last = outcomes[-1]
    faults = sum(fault.met for outcome in outcomes for fault in outcome.faults)
    what = "good" if last.good else "; ".join(report.problems(len(outcomes) - 1, last))
    settled = "never" if last.settled_s is None else f"{last.settled_s:.1f} s"
    return (
        f"{broker} round {len(outcomes) - 1}: {len(last.faults)} faults, {faults} in all, settled in {settled}: {what}"
    )


def fuzz(files: int, seed: int) -> dict[str, Any]:
    """Fuzzes image files. `code` is 0 when all went well; the rest is what that script says."""
    command = [sys.executable, "-m", "tests.chaos.fuzz_images", "--files", str(files), "--seed", str(seed)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    try:
        said = json.loads(done.stdout)
    except ValueError:
        said = (done.stdout + done.stderr)[-2000:]
    return {"code": done.returncode, "said": said}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
