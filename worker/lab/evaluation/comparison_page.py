"""Shows a comparison to people and programs: as one page, and as one JSON object."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from worker.lab.evaluation.compare import Comparison, Duel, Group, Pair
from worker.lab.evaluation.evaluated import Evaluated
from worker.lab.evaluation.page import or_dash, write_page

SHOWN = 200
"""How many images the page names in a list. The JSON object has all of them."""


def as_json(compared: Comparison, a: Evaluated, b: Evaluated) -> dict[str, Any]:
    """Returns the whole comparison, for json.dumps()."""
    return {
        "a": _side(a),
        "b": _side(b),
        "images": compared.duel.images,
        **_duel(compared.duel),
        "winner": compared.winner,
        "scored": compared.scored,
        "roc_auc_a": compared.roc_auc_a,
        "roc_auc_b": compared.roc_auc_b,
        "kappa": compared.kappa,
        "categories": _groups(compared.categories),
        "generators": _groups(compared.generators),
        "only_in_a": list(compared.only_in_a),
        "only_in_b": list(compared.only_in_b),
        "other_content": list(compared.other_content),
        "warnings": list(compared.warnings),
        "disagreements": [_pair(one) for one in compared.disagreements],
    }


def as_lines(compared: Comparison, a: Evaluated, b: Evaluated) -> Iterator[str]:
    """Yields the lines that a person wants to see first."""
    duel = compared.duel
    of_a, of_b = names(a, b)
    for side, made, detector, accuracy, area in (
        ("A", a, of_a, duel.accuracy_a, compared.roc_auc_a),
        ("B", b, of_b, duel.accuracy_b, compared.roc_auc_b),
    ):
        named = detector if made.detector else "detector not named"
        yield f"{side}: {made.name} ({named}): accuracy {100 * accuracy:.2f} %, ROC AUC {or_dash(area)}"
    for side, images in (("A", compared.only_in_a), ("B", compared.only_in_b)):
        if images:
            yield f"only in {side}, left out: {len(images)} images, such as {images[0]}"
    if others := compared.other_content:
        yield f"another content in B than in A, left out: {len(others)} images, such as {others[0]}"
    yield (f"{duel.images} images: both right {duel.both}, only A {duel.only_a}, only B {duel.only_b}, "
           f"neither {duel.neither}")  # fmt: skip
    yield (f"A - B: {100 * duel.difference:+.2f} points (95 %: {100 * duel.low:+.2f} to {100 * duel.high:+.2f}); "
           f"McNemar's exact test: p = {duel.p:.4g}")  # fmt: skip
    yield f"Cohen's kappa {or_dash(compared.kappa)}; different words for {len(compared.disagreements)} images"
    for kind, groups in (("category", compared.categories), ("generator", compared.generators)):
        for one in groups:
            yield (f"{kind} {one.name}: {one.duel.images} images, A - B {100 * one.duel.difference:+.2f} points, "
                   f"p = {one.p_holm:.4g} by Holm{f': {one.winner} is better' if one.winner else ''}")  # fmt: skip
    yield f"{compared.winner} is right more often" if compared.winner else "neither is shown to be right more often"


def names(a: Evaluated, b: Evaluated) -> tuple[str, str]:
    """Returns the names of the two detectors, with the start of their fingerprints if both have the same name.

    If the detector of some predictions is unknown, the name is that of the predictions.
    """
    of_a, of_b = (made.detector["name"] if made.detector else made.name for made in (a, b))
    if a.detector and b.detector and of_a == of_b:
        of_a, of_b = (f"{made['name']} {made['fingerprint'][:8]}" for made in (a.detector, b.detector))
    return of_a, of_b


def write_comparison_page(compared: Comparison, a: Evaluated, b: Evaluated, output: Path) -> None:
    """Writes the page, which names at most SHOWN images of each kind."""
    name_a, name_b = names(a, b)
    write_page(
        "comparison.html.j2", output, compared=compared, duel=compared.duel, a=a, b=b, shown=SHOWN,
        name_a=name_a, name_b=name_b,
    )  # fmt: skip


def _side(made: Evaluated) -> dict[str, Any]:
    return {"name": made.name, "detector": made.detector, "perturbed": made.perturbed}


def _duel(duel: Duel) -> dict[str, Any]:
    """Returns it like asdict, with the four cells of the table in an object of their own."""
    found = asdict(duel)
    return {"table": {cell: found.pop(cell) for cell in ("both", "only_a", "only_b", "neither")}, **found}


def _groups(groups: Iterable[Group]) -> dict[str, Any]:
    return {
        one.name: {"images": one.duel.images, **_duel(one.duel), "p_holm": one.p_holm, "winner": one.winner}
        for one in groups
    }


def _pair(pair: Pair) -> dict[str, Any]:
    said = {
        f"{field}_{side}": getattr(one, field)
        for side, one in (("a", pair.a), ("b", pair.b))
        for field in ("verdict", "score")
    }
    about = pair.a.model_dump(mode="json", include={"image", "label", "category", "generator"})
    return about | said
