"""Runs the fault suite: `python -m tests.chaos.run --minutes 25 --seed 1 --report build/chaos/report.json`.

It runs rounds on all brokers in parallel until the time is over. The exit code is 1 if anything is lost, unexpected,
doubled or wrong, or if a round is not settled in time.
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
    """Returns the options of the command line."""
    sizes = Sizes()
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.run", description=__doc__)
    parser.add_argument("--minutes", type=float, default=25, help="no round starts after this time")
    parser.add_argument("--rounds", type=int, default=10_000, help="the most rounds on each broker")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--report", type=Path, default=Path("build/chaos/report.json"))
    parser.add_argument("--brokers", default=",".join(BROKERS), help="a comma list: the brokers to use")
    parser.add_argument("--faults", default="", help="a comma list: only kinds whose names begin with one of these")
    parser.add_argument("--images", type=int, default=sizes.images, help="images in the scan of a round")
    parser.add_argument("--submissions", type=int, default=sizes.submissions, help="submissions in a round")
    parser.add_argument("--storm-s", type=float, default=sizes.storm_s, help="how long a round has faults, at most")
    parser.add_argument(
        "--settle-s", type=float, default=sizes.settle_s, help="how long a round may take to settle after that"
    )
    parser.add_argument(
        "--twice", choices=("alternate", "yes", "no"), default=sizes.twice, help="publish every message twice"
    )
    parser.add_argument("--image-s", type=float, default=0.1, help="seconds that the engine takes for an image")
    parser.add_argument("--fuzz", type=int, default=0, help="also decode this many damaged image files")
    parser.add_argument("--part", action="store_true", help="print no table, because another process prints it")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """The command line: see the module."""
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
    """Runs a process for each broker, all in parallel. Returns their reports."""
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
    """Runs rounds on one broker until the time is over or a round is bad. Returns the report.

    It also writes the report after each round.
    """
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
    """Decodes damaged image files. In the result, `code` is 0 if all went well, and `said` is the script's report."""
    command = [sys.executable, "-m", "tests.chaos.fuzz_images", "--files", str(files), "--seed", str(seed)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    try:
        said = json.loads(done.stdout)
    except ValueError:
        said = (done.stdout + done.stderr)[-2000:]
    return {"code": done.returncode, "said": said}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
