"""Measures whether the demo detector names the artefacts that it sees: shares by family, from predictions.

    python deploy/demo/draw.py build/detector/held-out --count 1200 --seed 2
    fakesweep evaluate build/detector/held-out/records.json --detector deploy/demo/detector --output build/measured
    python deploy/demo/measure.py build/detector/held-out/records.json build/measured

It prints one JSON object. The figures of `fakesweep evaluate` are not repeated here.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run as a script, without an installed package

from deploy.demo.answers import REAL, named_families
from worker.lab.evaluation.journal import read_predictions
from worker.lab.evaluation.predictions import Prediction


def is_right(prediction: Prediction) -> bool:
    """Whether the verdict equals the label. An undecided verdict is wrong."""
    return prediction.verdict == ("fake" if prediction.is_fake else "real")


def summarise(families: dict[str, str], predictions: Iterable[Prediction]) -> dict[str, Any]:
    """Returns figures by family and over all. ``families`` is by image.

    ``right`` is the share of right verdicts. For fakes, ``named`` is the share of answers with the key phrase of their
    own family and no other, and ``named_and_right`` the share of these with the right verdict.
    """
    groups: dict[str, list[Prediction]] = {}
    for one in predictions:
        groups.setdefault(families[one.image], []).append(one)
    everything = [one for group in groups.values() for one in group]
    return {
        "right": _share(is_right(one) for one in everything),
        "different_answers": len({one.answer for one in everything}),
        **_named(families, [one for one in everything if one.is_fake]),
        "families": {
            family: {"n": len(group), "right": _share(map(is_right, group))}
            | ({} if family == REAL else _named(families, group))
            for family, group in sorted(groups.items())
        },
    }


def _named(families: dict[str, str], fakes: list[Prediction]) -> dict[str, float]:
    named = [one for one in fakes if named_families(one.answer) == {families[one.image]}]
    return {
        "named": round(len(named) / len(fakes), 4),
        "named_and_right": round(sum(map(is_right, named)) / len(fakes), 4),
    }


def _share(hits: Iterable[bool]) -> float:
    found = list(hits)
    return round(sum(found) / len(found), 4)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Measures which artefacts the demo detector names.")
    parser.add_argument("records", type=Path, help="records.json, written by draw.py")
    parser.add_argument("evaluation", type=Path, help="the --output of fakesweep evaluate on it")
    options = parser.parse_args()
    records = json.loads(options.records.read_text(encoding="utf-8"))
    families = {record["image"]: record["family"] for record in records}
    print(json.dumps(summarise(families, read_predictions(options.evaluation)), indent=2))


if __name__ == "__main__":
    main()
