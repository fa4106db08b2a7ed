"""Shows a leaderboard to people and programs: as one page, as lines, and as one JSON object."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from worker.lab.evaluation.contenders import LabelledSet, warnings
from worker.lab.evaluation.figures import FALSE_POSITIVE_RATE
from worker.lab.evaluation.leaderboard import Leaderboard, SetBoard
from worker.lab.evaluation.page import or_dash, write_page

CAUGHT = f"fakes caught at {100 * FALSE_POSITIVE_RATE:g} % false alarms"


def as_json(board: Leaderboard, sets: Sequence[LabelledSet]) -> dict[str, Any]:
    """Returns the whole leaderboard, for json.dumps()."""
    sources = {one.name: {each.detector: each.source for each in one.contenders} for one in sets}
    return {
        "false_positive_rate": FALSE_POSITIVE_RATE,
        "averaged": dict(board.averaged),
        "warnings": list(warnings(sets)),
        "detectors": [
            asdict(one) | {"worst": {"accuracy": one.worst[0], "set": one.worst[1]}} for one in board.standings
        ],
        "sets": [_set(one, sources[one.name]) for one in board.sets],
    }


def _set(board: SetBoard, sources: dict[str, str]) -> dict[str, Any]:
    return {
        "name": board.name,
        "left_out": board.left_out,
        "detectors": {
            row.detector: {
                **asdict(row.figures),
                "p_holm": row.p_holm,
                "trained_on_it": row.trained_on_it,
                "source": sources[row.detector],
            }
            for row in board.rows
        },
        **{
            kind: {one.name: {"images": one.images, "accuracy": dict(one.accuracy)} for one in groups}
            for kind, groups in board.groups.items()
        },
    }


def as_lines(board: Leaderboard) -> Iterator[str]:
    """Yields the lines that a person wants to see first."""
    for one in board.standings:
        accuracy, name = one.worst
        cost = "" if one.cost is None else f", {amount(one.cost)} per thousand images"
        speed = "" if one.speed is None else f", {amount(one.speed)} images/s{cost}"
        place = "–" if one.place is None else f"{one.place}."
        learned = f", too good: trained on {', '.join(one.trained_on)}" if one.trained_on else ""
        yield (
            f"{place} {one.detector}: ROC AUC {or_dash(one.roc_auc)}, accuracy {_per_cent(one.accuracy)}, "
            f"{CAUGHT} {_per_cent(one.true_positive_rate)}, worst set {_per_cent(accuracy)} ({name}){speed}{learned}"
        )
    for each in board.sets:
        left_out = f", {each.left_out:,} left out" if each.left_out else ""
        yield f"{each.name}: {each.rows[0].figures.images:,} images{left_out}"
        for row in each.rows:
            learned = " (too good: trained on this set)" if row.trained_on_it else ""
            same = " (not shown to differ from the best)" if row.p_holm is not None and row.may_be_best else ""
            yield (
                f"  {row.detector}{learned}: accuracy {_per_cent(row.figures.accuracy)}{same}, "
                f"ROC AUC {or_dash(row.figures.roc_auc)}, "
                f"fakes caught {_per_cent(row.figures.true_positive_rate)}"
            )


def _per_cent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def amount(value: float) -> str:
    """Returns a number with three digits that count, and never with an exponent for large ones."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"  # noqa: PLR2004


def write_leaderboard_page(board: Leaderboard, sets: Sequence[LabelledSet], output: Path) -> None:
    """Writes the page."""
    write_page(
        "leaderboard.html.j2", output, board=board, sets=sets, caught=CAUGHT[0].upper() + CAUGHT[1:], amount=amount,
        or_dash=or_dash, warnings=list(warnings(sets)), has_speed=any(one.speed is not None for one in board.standings),
        has_cost=any(one.cost is not None for one in board.standings),
    )  # fmt: skip
