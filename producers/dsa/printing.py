"""Prints the yearly report and the decisions about a content, for people."""

from collections.abc import Iterator, Mapping
from typing import Any

from producers.reporting.progress import printable


def report_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """Yields the lines of `fakesweep dsa report`."""
    said = ", ".join(f"{number} {statement}" for statement, number in report["reviews"].items())
    yield f"{report['year']}  reviews: {said}; statements of reasons: {report['statements_of_reasons']}"
    yield f"appeals: {_appeals(report['appeals'])}"
    for one in report["detectors"]:
        yield printable(f"detector {one['detector']} ({str(one['fingerprint'])[:12]}): {one['contents']} contents")
        yield f"  fake: {one['fake_confirmed']} confirmed, {one['fake_overturned']} overturned"
        yield f"  real: {one['real_confirmed']} confirmed, {one['real_overturned']} overturned"
        yield f"  uncertain: {one['uncertain_fake']} fake, {one['uncertain_real']} real"
        yield f"  people could not tell: {one['cannot_tell']}, disagreed: {one['disputed']}"
        yield f"  overturned when it said fake: {_rate(one['fake_overturn_rate'])}"
        yield f"  overturned in all: {_rate(one['overturn_rate'])}"
        yield f"  appeals: {_appeals(one['appeals'])}"
    yield report["note"]


def decision_line(row: Mapping[str, Any]) -> str:
    """A review as `fakesweep history` prints it."""
    parts = [row["decided_at"][:19], "decision", row["statement"], f"by {row['reviewer']}"]
    parts += ["appeal"] if row["kind"] == "appeal" else []
    parts += [row["reason_code"]] if row["reason_code"] else []
    parts += ["withdrawn"] if row["withdrawn"] else []
    parts += [f"puid {row['puid']}"] if row["puid"] else []
    return printable("\t".join(parts))


def _appeals(appeals: Mapping[str, Any]) -> str:
    upheld, turned = appeals["decisions_upheld"], appeals["decisions_reversed"]
    counted = f"decision upheld {upheld}, decision reversed {turned}, dispute settled {appeals['disputes_settled']}"
    return f"{counted}; decisions reversed: {_rate(appeals['reversal_rate'])}"


def _rate(rate: Mapping[str, Any] | None) -> str:
    if rate is None:
        return "no rate, because there are no such contents"
    return f"{rate['rate']:.1%} of {rate['of']} ({rate['low']:.1%} to {rate['high']:.1%})"
