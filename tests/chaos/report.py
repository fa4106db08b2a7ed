"""Makes the suite's report: which faults were caused, how long it took to recover, and what was lost."""

import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.chaos.rounds import Outcome

ACCOUNTS = ("images", "messages", "submissions", "malformed")
WRONGS = ("lost", "unexpected", "doubled", "wrong")
NAMED = 20
"""How many names of wrong images or messages the report gives for each round."""


def of_broker(
    broker: str, outcomes: Sequence[Outcome], missing: Mapping[str, str], judged: tuple[int, int], exits: Counter[int]
) -> dict[str, Any]:
    """Returns the report of one broker's rounds.

    `missing`: the kinds of faults that cannot be caused, and why. `judged`: how many verdicts and contents there are.
    `exits`: how often workers ended, by exit code.
    """
    faults = [fault for outcome in outcomes for fault in outcome.faults]
    recovered: dict[str, list[float]] = defaultdict(list)
    for outcome in outcomes:
        for kind, seconds in outcome.recovered_s:
            recovered[kind].append(seconds)
    return {
        "broker": broker,
        "rounds": len(outcomes),
        "faults": dict(sorted(Counter(fault.kind for fault in faults if fault.met).items())),
        "faults_unnoticed": dict(sorted(Counter(fault.kind for fault in faults if not fault.met).items())),
        "fault_errors": [f"{fault.kind}: {fault.error}" for fault in faults if fault.error][:NAMED],
        "not_caused": dict(missing),
        "recovered_s": {kind: sorted(round(one, 3) for one in times) for kind, times in sorted(recovered.items())},
        "settled_s": [outcome.settled_s and round(outcome.settled_s, 1) for outcome in outcomes],
        "accounts": {name: _sum(getattr(outcome, name).counts() for outcome in outcomes) for name in ACCOUNTS},
        "ends": _sum(outcome.ends for outcome in outcomes),
        "verdicts": judged[0],
        "judged_again": judged[0] - judged[1],
        "worker_exits": {str(code): count for code, count in sorted(exits.items())},
        "producer_exits": dict(Counter(str(code) for outcome in outcomes for code in outcome.exits)),
        "problems": [line for number, outcome in enumerate(outcomes) for line in problems(number, outcome)],
    }


def problems(number: int, outcome: Outcome) -> list[str]:
    """Returns what is wrong with a round, one line for each problem."""
    found = [
        f"round {number}: {name} {wrong}: {', '.join(names[:NAMED])}{' …' if len(names) > NAMED else ''}"
        for name in ACCOUNTS
        for wrong in WRONGS
        if (names := getattr(getattr(outcome, name), wrong))
    ]
    found += [f"round {number}: counter {name}: scans says {said}, findings say {there}"
              for name, (said, there) in outcome.counters.items()]  # fmt: skip
    found += [f"round {number}: dead letter: {letter[:400]}" for letter in outcome.dead[:NAMED]]
    found += [f"round {number}: a worker's log has an error that the suite did not cause: {line[:400]}"
              for line in outcome.unforeseen[:NAMED]]  # fmt: skip
    if outcome.settled_s is None:
        found.append(f"round {number}: not settled in time")
    return found


def merged(reports: Sequence[Mapping[str, Any]], **more: Any) -> dict[str, Any]:
    """Merges the reports of all brokers into one."""
    times = [seconds for report in reports for one in report["recovered_s"].values() for seconds in one]
    settled = [seconds for report in reports for seconds in report["settled_s"] if seconds is not None]
    accounts = {name: _sum(report["accounts"][name] for report in reports) for name in ACCOUNTS}
    problems_found = [f"{report['broker']}: {line}" for report in reports for line in report["problems"]]
    missing = {kind: why for report in reports for kind, why in report["not_caused"].items()}
    return {
        "faults": sum(sum(report["faults"].values()) for report in reports),
        "faults_by_kind": dict(sorted(_sum(report["faults"] for report in reports).items())),
        "not_caused": missing,
        "rounds": sum(report["rounds"] for report in reports),
        "images": accounts["images"]["decided"] + accounts["submissions"]["decided"],
        "recovered_s": {"median": _median(times), "worst": max(times, default=None)},
        "settled_s": {"median": _median(settled), "worst": max(settled, default=None)},
        "judged_again": sum(report["judged_again"] for report in reports),
        "ends": _sum(report["ends"] for report in reports),
        **{wrong: sum(account[wrong] for account in accounts.values()) for wrong in WRONGS},
        **{name: sum(account[name] for account in accounts.values()) for name in ("duplicated", "recovered")},
        "accounts": accounts,
        "problems": problems_found,
        "brokers": list(reports),
        **more,
    }


def _sum(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return dict(total)


def _median(values: Sequence[float]) -> float | None:
    return round(statistics.median(values), 2) if values else None


def write(path: Path, report: Mapping[str, Any]) -> None:
    """Writes the report as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")


def table(report: Mapping[str, Any]) -> str:
    """Returns the report as text for people."""
    times: dict[str, list[float]] = defaultdict(list)
    for broker in report["brokers"]:
        for kind, seconds in broker["recovered_s"].items():
            times[kind] += seconds
    lines = [f"{'fault':32}{'times':>7}   to the next outcome: median, worst (s)"]
    for kind, count in report["faults_by_kind"].items():
        median, worst = _median(times[kind]), max(times[kind], default=None)
        lines.append(f"{kind:32}{count:7}   {'-' if median is None else f'{median:.1f}, {worst:.1f}'}")
    lines += [f"{kind:32}{'none':>7}   not caused here: {why}" for kind, why in report["not_caused"].items()]
    zeros = ", ".join(f"{report[wrong]} {wrong}" for wrong in WRONGS)
    recovered, settled = report["recovered_s"], report["settled_s"]
    twice, late = report["duplicated"], report["recovered"]
    lines += [
        f"{report['faults']} faults in {report['rounds']} rounds, {report['images']} images: {zeros}",
        "images: " + ", ".join(f"{count} {end}" for end, count in sorted(report["ends"].items())),
        f"messages: {twice} delivered more than once, {late} decided without a confirmation",
        f"images judged again: {report['judged_again']}",
        f"from a fault to the next outcome: median {recovered['median']} s, worst {recovered['worst']} s",
        f"from a round's last fault to its end: median {settled['median']} s, worst {settled['worst']} s",
        *report["problems"],
    ]
    return "\n".join(lines)
