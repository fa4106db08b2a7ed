"""Shows a leaderboard to people and programs: as one page, as lines, and as one JSON object."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from worker.lab.evaluation.contenders import LabelledSet
from worker.lab.evaluation.figures import FALSE_POSITIVE_RATE
from worker.lab.evaluation.leaderboard import Leaderboard, SetBoard, Standing
from worker.lab.evaluation.page import write_page

GROUPS = ("categories", "generators", "perturbations")


def as_json(board: Leaderboard, sets: Sequence[LabelledSet]) -> dict[str, Any]:
    """Returns the whole leaderboard, for json.dumps()."""
    sources = {one.name: {each.detector: each.source for each in one.contenders} for one in sets}
    return {
        "false_positive_rate": FALSE_POSITIVE_RATE,
        "detectors": [_standing(one) for one in board.standings],
        "sets": [_set(one, sources[one.name]) for one in board.sets],
    }


def _standing(standing: Standing) -> dict[str, Any]:
    accuracy, name = standing.worst
    return asdict(standing) | {"worst": {"accuracy": accuracy, "set": name}}


def _set(board: SetBoard, sources: dict[str, str]) -> dict[str, Any]:
    rows = {}
    for row in board.rows:
        found = {**asdict(row.figures), "p_holm": row.p_holm, "source": sources[row.detector]}
        for kind in GROUPS:
            named = zip(getattr(board, kind), getattr(row, kind), strict=True)
            found[kind] = {name: accuracy for (name, _), accuracy in named}
        rows[row.detector] = found
    groups = {kind: dict(getattr(board, kind)) for kind in GROUPS}
    return {"name": board.name, "left_out": board.left_out, "images": groups, "detectors": rows}


def as_lines(board: Leaderboard) -> Iterator[str]:
    """Yields the lines that a person wants to see first."""
    for number, one in enumerate(board.standings, start=1):
        sets = f"mean of {one.sets} sets" if one.roc_auc is not None else f"{one.sets} of {len(board.sets)} sets"
        cost = "" if one.cost is None else f", {one.cost:.4g} per thousand images"
        speed = "" if one.speed is None else f", {one.speed:.4g} images/s{cost}"
        accuracy, name = one.worst
        yield (
            f"{number}. {one.detector} ({sets}): accuracy {_per_cent(one.accuracy)}, ROC AUC {_per_cent(one.roc_auc)}, "
            f"fakes caught at 1 % false alarms {_per_cent(one.true_positive_rate)}, "
            f"worst {_per_cent(accuracy)} ({name}){speed}"
        )
    for each in board.sets:
        left_out = f", {each.left_out} left out" if each.left_out else ""
        yield f"{each.name}: {each.rows[0].figures.images} images{left_out}"
        for row in each.rows:
            same = "" if row.p_holm is None else " (not shown to differ from the best)" if row.may_be_best else ""
            yield (
                f"  {row.detector}: accuracy {_per_cent(row.figures.accuracy)}{same}, "
                f"ROC AUC {_per_cent(row.figures.roc_auc)}, "
                f"fakes caught {_per_cent(row.figures.true_positive_rate)}"
            )


def _per_cent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def write_leaderboard_page(board: Leaderboard, sets: Sequence[LabelledSet], output: Path) -> None:
    """Writes the page."""
    fastest = any(one.speed is not None for one in board.standings)
    write_page(
        "leaderboard.html.j2", output, board=board, contenders={one.name: one.contenders for one in sets},
        groups=GROUPS, has_speed=fastest, has_cost=any(one.cost is not None for one in board.standings),
    )  # fmt: skip
