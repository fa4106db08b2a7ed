"""Commands that measure detectors on labelled images."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

from producers.commands import clearing
from producers.commands.options import Json, needs_extra, print_json, settings_for
from worker.errors import UsageError

app = typer.Typer()

Dataset = Annotated[
    Path, typer.Argument(metavar="DATASET", help="FakeClue's JSON, JSON Lines, or a folder with real/ and fake/.")
]
Images = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER|s3://…", help="Where the images of the records are. Default: the folder of the dataset."
    ),
]
DetectorOption = Annotated[str | None, typer.Option("--detector", help="The detector, in place of FAKESWEEP_DETECTOR.")]


@contextmanager
def only_results_on_stdout() -> Iterator[None]:
    """While the body runs, sends to stderr what engines and their processes print."""
    sys.stdout.flush()
    stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(stdout, 1)
        os.close(stdout)


@app.command()
def evaluate(
    dataset: Dataset,
    images: Images = None,
    detector: DetectorOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Default: evaluation/<dataset>-<detector>. An evaluation that was begun there continues.",
        ),
    ] = None,
    robustness: Annotated[
        bool, typer.Option("--robustness", help="Judge each image under the paper's perturbations, too.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first record that cannot be used.")] = False,
    embeddings: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="The sentence embeddings for CSS: a folder, or a hub id that was downloaded before."
        ),
    ] = None,
    resamples: Annotated[
        int, typer.Option(min=0, max=100_000, help="Resamples of the bootstrap. 0: no confidence intervals from it.")
    ] = 1000,
    as_json: Json = False,
) -> None:
    """Measure a detector on labelled images: predictions.jsonl, metrics.json and report.html."""
    from rich.console import Console

    from producers.reporting import progress

    settings = settings_for(detector)
    try:
        from worker.lab.evaluation.evaluate import evaluate_detector
        from worker.lab.evaluation.similarity import EMBEDDINGS
        from worker.lab.evaluation.table import tables
    except ImportError as error:
        raise needs_extra("evaluate", error) from error
    folder = output or Path("evaluation", f"{dataset.resolve().stem}-{Path(settings.detector).stem}")
    place = images or str((dataset if dataset.is_dir() else dataset.parent).resolve())
    with only_results_on_stdout(), progress.shown("judging", total=None) as advance:
        metrics = evaluate_detector(
            dataset, place, settings, folder, robustness=robustness, strict=strict,
            embeddings=embeddings or EMBEDDINGS, resamples=resamples, say=progress.say, advance=advance,
        )  # fmt: skip
    if as_json:
        print_json(metrics)
        return
    for table in tables(metrics):
        Console().print(table)
    progress.say(f"predictions, metrics and report are in {folder}")


@app.command()
def calibrate(
    fit: Annotated[Path, typer.Argument(metavar="FIT", help="An output of evaluate, to fit on.")],
    report: Annotated[
        Path | None, typer.Argument(metavar="REPORT", help="An output for other images, to measure on.")
    ] = None,
    *,
    output: Annotated[
        Path, typer.Option(metavar="FOLDER|FILE.toml", help="Where the detector's new description is written.")
    ],
    detector: DetectorOption = None,
    method: Annotated[
        Literal["temperature", "platt", "isotonic"] | None,
        typer.Option(help="Fits one number, two numbers, or any rising curve. Default: temperature."),
    ] = None,
    false_positive_rate: Annotated[
        float | None,
        typer.Option(min=1e-6, max=0.5, help="Share of the real images that may be called fake. Default: 0.01."),
    ] = None,
    miss_rate: Annotated[
        float | None, typer.Option(min=0, max=0.5, help="Share of the fakes that may be called real.")
    ] = None,
    split: Annotated[
        float | None, typer.Option(min=0.01, max=0.99, help="Without REPORT: the share of FIT to fit on. Default: 0.5.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The seed of the split.")] = 0,
    in_place: Annotated[bool, typer.Option("--in-place", help="Replace the detector's own description.")] = False,
    page: Annotated[Path | None, typer.Option(metavar="FILE.html", help="A page with reliability diagrams.")] = None,
    max_miss_rate: Annotated[
        float | None,
        typer.Option(min=1e-6, max=0.5, help="For a cascade: the share of the fakes that its first stage may clear."),
    ] = None,
    judged: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="For a cascade: an output of evaluate for REPORT's images, by its judge."),
    ] = None,
    fake_share: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="For a cascade: the share of fakes among the images to scan. Default: 0.02."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Fit a detector's calibration and thresholds on one evaluation and measure them on another. For a cascade: find
    its clear threshold (--max-miss-rate).
    """
    from producers.reporting import progress

    if report and split is not None:
        raise UsageError("--split divides one set: give either it or REPORT")
    clearing.check_options(
        max_miss_rate,
        of_cascades={"--judged": judged, "--fake-share": fake_share},
        of_others={"--method": method, "--false-positive-rate": false_positive_rate, "--miss-rate": miss_rate},
    )
    settings = settings_for(detector)
    if max_miss_rate is not None:
        share = 0.02 if fake_share is None else fake_share
        given = clearing.Given(fit, report, output, judged, split or 0.5, seed, page, max_miss_rate, share)
        clearing.clear(given, settings, in_place=in_place, as_json=as_json)
        return
    try:
        from worker.detector.loading import load_description
        from worker.lab.evaluation import calibration_page, evaluated, outputs, storing
        from worker.lab.evaluation.calibrate import Wanted, calibrate
    except ImportError as error:
        raise needs_extra("evaluate", error) from error
    path, description = storing.output_file(output, settings, in_place=in_place), load_description(settings)
    if page:
        outputs.check_page(page, "--page")
    fit_on = evaluated.read_evaluated(fit)
    sets = (fit_on, evaluated.read_evaluated(report)) if report else evaluated.split(fit_on, split or 0.5, seed)
    calibrated = calibrate(description, *sets, Wanted(method or "temperature", false_positive_rate or 0.01, miss_rate))
    storing.store(calibrated.calibration, calibrated.thresholds, path, settings)
    if page:
        calibration_page.write_calibration_page(calibrated, description, page)
    for warning in calibrated.warnings:
        progress.say(f"warning: {warning}")
    if as_json:
        print_json({"output": str(path), **calibration_page.as_json(calibrated)})
        return
    for line in calibration_page.as_lines(calibrated):
        typer.echo(progress.printable(line))
    typer.echo(f"written to {path}")


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="An output of evaluate.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="The output of another detector, on the same images.")],
    output: Annotated[Path | None, typer.Option(metavar="FILE.html", help="A page with the whole comparison.")] = None,
    as_json: Json = False,
) -> None:
    """Compare two detectors on the same images: McNemar's test, who is better where, and where they disagree."""
    from producers.reporting import progress

    settings_for(None)
    try:
        from worker.lab.evaluation import comparison_page, outputs
        from worker.lab.evaluation.compare import compare
        from worker.lab.evaluation.evaluated import read_evaluated
    except ImportError as error:
        raise needs_extra("evaluate", error) from error
    if output:
        outputs.check_page(output, "--output")
    of_a, of_b = read_evaluated(a), read_evaluated(b)
    compared = compare(of_a, of_b)
    if output:
        comparison_page.write_comparison_page(compared, of_a, of_b, output)
    for warning in compared.warnings:
        progress.say(f"warning: {warning}")
    if as_json:
        print_json(comparison_page.as_json(compared, of_a, of_b))
        return
    for line in comparison_page.as_lines(compared, of_a, of_b):
        typer.echo(progress.printable(line))
