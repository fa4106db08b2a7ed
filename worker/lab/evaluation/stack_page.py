"""Shows a stack to people and programs: as stack.toml, as lines, as one page, and as one JSON object."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import tomlkit

from worker.errors import ConfigurationError
from worker.files import replacing
from worker.lab.evaluation.calibration_page import diagram, in_words
from worker.lab.evaluation.outputs import check_folder
from worker.lab.evaluation.page import inline_svg, write_page
from worker.lab.evaluation.reliability import BINS
from worker.lab.evaluation.stack import ALIKE, Stacked
from worker.stacking import Stack, parse_stack


def check_new(output: Path) -> None:
    """Raises ConfigurationError if no new .toml file can be written there."""
    if output.suffix != ".toml":
        raise ConfigurationError(f"--output: {output} must end in .toml; give such a name, as in stack.toml")
    check_folder(output.parent, "--output")
    if output.exists():
        raise ConfigurationError(f"--output: {output} exists already; give another place, or remove it")


def write_stack(stack: Stack, output: Path) -> None:
    """Writes the file, which parse_stack() reads."""
    content = stack.model_dump(mode="json", exclude_none=True)
    tables = tomlkit.aot()
    for one in content.pop("detectors"):
        tables.append(tomlkit.item(one))
    text = tomlkit.dumps(tomlkit.item(content)) + "\n" + tomlkit.dumps({"detectors": tables})
    if parse_stack(text, where=str(output)) != stack:
        raise AssertionError("the file would hold another stack")
    output.parent.mkdir(parents=True, exist_ok=True)
    with replacing(output) as file:
        file.write(text)


def as_json(stacked: Stacked) -> dict[str, Any]:
    """Returns the whole stack, for json.dumps()."""
    alone = [{name: value for name, value in asdict(one).items() if name != "scores"} for one in stacked.alone]
    found = {name: value for name, value in asdict(stacked).items() if name != "alone"}
    stack = stacked.stack.model_dump(mode="json") | {"fingerprint": stacked.stack.fingerprint}
    return found | {"stack": stack, "detectors": alone, "helps": stacked.gain.helps}


def as_lines(stacked: Stacked) -> Iterator[str]:
    """Yields the lines that a person wants to see first."""
    stack, report, gain = stacked.stack, stacked.report, stacked.gain
    yield f"fitted on {stack.images} images of {stacked.fit.name}; measured on {gain.scored} of {report.name}"
    yield f"undecided and left out: {stacked.fit.undecided} and {report.undecided}"
    if any(stacked.left_out):
        yield f"not judged by all detectors with the same bytes, left out: {' and '.join(map(str, stacked.left_out))}"
    for one in stacked.alone:
        yield (f"{one.name}: weight {one.weight:.4g}; alone on REPORT: ROC AUC {one.roc_auc:.4f}, "
               f"log loss {one.own.log_loss:.4f}, fitted {one.fitted.log_loss:.4f}")  # fmt: skip
    yield f"stack: offset {stack.offset:.4g}; ROC AUC {gain.roc_auc.stack:.4f}, log loss {gain.log_loss.stack:.4f}"
    difference, duel = gain.roc_auc, gain.duel
    yield (f"stack - {gain.best}, the best one on FIT: ROC AUC {difference.difference:+.4f} (95 %: "
           f"{difference.low:+.4f} to {difference.high:+.4f})")  # fmt: skip
    yield (f"right on {duel.only_a} images on which {gain.best} is wrong, and wrong on {duel.only_b} on which it is "
           f"right; McNemar's exact test: p = {duel.p:.4g}")  # fmt: skip
    yield f"fake from {stack.fake_from:.4g}, real to {stack.real_to:.4g}; on REPORT:"
    yield f"  real images called fake: {in_words(report.false_positives)}"
    yield f"  fakes called fake: {in_words(report.recall)}"
    yield f"  fakes called real: {in_words(report.missed)}"
    yield stacked.gain.sentence()


def write_stack_page(stacked: Stacked, output: Path) -> None:
    """Writes the page, with reliability diagrams of the images that the stack was measured on."""
    shown = [*((f"{one.name} alone", one.own) for one in stacked.alone), ("The stack", stacked.report.after)]
    diagrams = [
        (
            f"{name}: expected calibration error {one.expected_calibration_error:.4f}",
            inline_svg(diagram(one), f"Reliability diagram of {name}: share of fakes by score, in {BINS} bins"),
        )
        for name, one in shown
    ]
    sentence = stacked.gain.sentence()
    write_page(
        "stack.html.j2", output, stacked=stacked, stack=stacked.stack, gain=stacked.gain, diagrams=diagrams, bins=BINS,
        sets=(("FIT", stacked.fit), ("REPORT", stacked.report)), helps=sentence[0].upper() + sentence[1:], alike=ALIKE,
    )  # fmt: skip
