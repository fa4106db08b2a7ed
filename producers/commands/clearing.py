"""What `fakesweep calibrate --max-miss-rate` does: it finds the clear threshold of a cascade."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from producers.commands.options import needs_extra, print_json
from worker.errors import UsageError

if TYPE_CHECKING:
    from worker.settings import Settings


@dataclass(frozen=True)
class Given:
    """The arguments and options of the command."""

    fit: Path
    report: Path | None
    output: Path
    judged: Path | None
    split: float
    seed: int
    page: Path | None
    max_miss_rate: float
    fake_share: float


def check_options(
    max_miss_rate: float | None, *, of_cascades: Mapping[str, object], of_others: Mapping[str, object]
) -> None:
    """Raises UsageError for an option that was given and has no effect. Options are by name; None: not given."""
    unused = of_cascades if max_miss_rate is None else of_others
    for option, value in unused.items():
        if value is not None:
            raise UsageError(
                f"{option} is for a cascade: give --max-miss-rate, too, or leave it out"
                if max_miss_rate is None
                else f"{option} has no effect with --max-miss-rate, which finds a clear threshold only; leave it out"
            )


def clear(given: Given, settings: "Settings", *, in_place: bool, as_json: bool) -> None:
    """Finds the threshold, writes the description with it, and says what it saves and misses.

    Raises UsageError if the detector is not a cascade.
    """
    from producers.reporting import progress

    try:
        from worker.detector.description import CascadeDescription
        from worker.detector.loading import load_description
        from worker.lab.evaluation import cleared, clearing, clearing_page, evaluated, outputs, storing
    except ImportError as error:
        raise needs_extra("evaluate", error) from error
    path, description = storing.output_file(given.output, settings, in_place=in_place), load_description(settings)
    if not isinstance(description, CascadeDescription):
        kind = f"{description.name} is a {description.kind}"
        raise UsageError(f"--max-miss-rate is for a cascade, and {kind}; leave it out")
    if given.page:
        outputs.check_page(given.page, "--page")
    fit_on = evaluated.read_evaluated(given.fit)
    report_on = evaluated.read_evaluated(given.report) if given.report else None
    sets = (fit_on, report_on) if report_on else evaluated.split(fit_on, given.split, given.seed)
    judged = evaluated.read_evaluated(given.judged) if given.judged else None
    wanted = cleared.Wanted(given.max_miss_rate, given.fake_share)
    found = clearing.clear(description, *sets, wanted, judged)
    storing.store_sections({"clear": found.rule}, path, settings)
    if given.page:
        clearing_page.write_clearing_page(found, description, sets, given.page)
    for warning in found.warnings:
        progress.say(f"warning: {warning}")
    if as_json:
        print_json({"output": str(path), **clearing_page.as_json(found)})
        return
    for line in clearing_page.as_lines(found):
        typer.echo(progress.printable(line))
    typer.echo(f"written to {path}")
