"""Runs the checks, one after another. None of them can stop the others."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace

from producers.checking import broker, configuration, database, gpu, machine, model, storage, together, web, webhooks
from producers.checking.rows import Check, Row, State, Subject, skipped, wrong
from worker.errors import FakesweepError
from worker.telemetry import scrub

LIMIT_S = 20.0
"""The longest time for one check. Connecting to what does not answer takes 5 to 10 s."""

CHECKS: Sequence[Check] = (
    *configuration.CHECKS, *database.CHECKS, *broker.CHECKS, *storage.CHECKS, *model.CHECKS, *gpu.CHECKS,
    *together.CHECKS, *web.CHECKS, *webhooks.CHECKS, *machine.CHECKS,
)  # fmt: skip


def run_checks(subject: Subject, checks: Sequence[Check] = CHECKS, *, limit_s: float = LIMIT_S) -> Iterator[Row]:
    """Runs what the subject's processes need, and gives each row when it is known."""
    failed: set[str] = set()
    for check in checks:
        if not check.needed_by & subject.processes:
            continue
        if check.after in failed:
            failed.add(check.name)
            yield skipped(f"not checked, because of what is wrong above: {check.after}", check.name)
            continue
        for row in _limited(check, subject, limit_s):
            if row.state is State.WRONG:
                failed.add(check.name)
            yield replace(row, name=f"{check.name} {row.name}".strip(), found=scrub(_one_line(row.found)))


def _limited(check: Check, subject: Subject, limit_s: float) -> list[Row]:
    """The rows of a check. A check that takes too long continues in its thread; the process does not wait for it."""
    rows: list[Row] = []
    thread = threading.Thread(target=_collect, args=(check, subject, rows), name=f"check {check.name}", daemon=True)
    thread.start()
    thread.join(limit_s)
    if thread.is_alive():
        return [*rows, wrong(f"no answer within {limit_s:.0f} s", check.remedy)]
    return rows


def _collect(check: Check, subject: Subject, rows: list[Row]) -> None:
    try:
        for row in check.run(subject):
            rows.append(row)  # noqa: PERF402 - what comes before an error counts
    except FakesweepError as error:
        rows.append(wrong(str(error), check.remedy))
    except Exception as error:  # noqa: BLE001 - a check must never stop the others
        rows.append(wrong(f"{type(error).__name__}: {error}", check.remedy))


def _one_line(text: str) -> str:
    return " ".join(text.split())
