"""Commands that make datasets of your own decisions."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from producers.commands.completion import complete_scan
from producers.commands.options import (
    Json,
    checked,
    environment,
    finite,
    open_database,
    print_json,
    settings_for,
    time_of,
)
from worker.errors import ConfigurationError

if TYPE_CHECKING:
    from producers.export.decisions import LeftOut, Report

app = typer.Typer()

ShareOption = Annotated[
    float, typer.Option(metavar="SHARE", help="The share of the contents in this part. The three shares add up to 1.")
]


@app.command()
def export(
    output: Annotated[Path, typer.Option(file_okay=False, metavar="FOLDER", help="Where the dataset is written.")],
    scan: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SCAN",
            help="Only contents reviewed in this scan. Can be repeated.",
            autocompletion=complete_scan,
        ),
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="DATE", help="Only contents reviewed on this day (UTC) or later.")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Your own labels, for contents that no review decides: CSV or JSON Lines."),
    ] = None,
    train: ShareOption = 0.8,
    validation: ShareOption = 0.1,
    test: ShareOption = 0.1,
    seed: Annotated[int, typer.Option(help="Another seed divides the contents in another way.")] = 0,
    images: Annotated[bool, typer.Option("--images", help="Copy the images into FOLDER/images.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first bad line or image.")] = False,
    as_json: Json = False,
) -> None:
    """Write what people reviewed or labelled as FakeClue's records, in train.json, validation.json and test.json."""
    from producers.export.dataset import Export, write_dataset
    from producers.export.decisions import Selection
    from producers.reporting import progress
    from producers.scan_names import scan_named
    from worker.detector.description import vlm_only
    from worker.detector.loading import load_description
    from worker.lab.datasets.splits import Shares
    from worker.storage import open_stores

    settings = settings_for(None)
    shares = checked(Shares, train=train, validation=validation, test=test)
    database = open_database(settings)
    scan_ids = frozenset(scan_named(database, one) for one in scan or ())
    with progress.shown("writing records", total=None) as advance:
        wanted = Export(
            vlm_only(load_description(settings), "a training set"),
            Selection(scan_ids, time_of(since, "--since")),
            shares,
            seed,
            labels,
            open_stores(settings) if images else None,
            report=_stopping if strict else _telling(),
            advance=lambda records: advance(records, None),
        )
        written = write_dataset(database, wanted, output)
    _say(written)
    print_json(written) if as_json else _print_splits(written)


def _stopping(fault: "LeftOut") -> None:
    raise ConfigurationError(f"--strict: {fault}")


def _telling() -> "Report":
    from producers.reporting import progress

    warn = progress.Warnings()
    return lambda fault: warn(str(fault))


def _say(written: Mapping[str, Any]) -> None:
    from producers.export.tally import SIDES, causes
    from producers.reporting import progress

    if written["left_out"]:
        progress.say(f"left out: {causes(written['left_out'])}")
    for split, counts in written["splits"].items():
        missing = [side for side in SIDES if not counts[side]]
        if missing and written["shares"][split]:
            progress.say(
                f"{split}.json holds no {' and no '.join(missing)} image: decide on more, or take another seed"
            )


def _print_splits(written: Mapping[str, Any]) -> None:
    for split, counts in written["splits"].items():
        typer.echo(f"{split}\tfake {counts['fake']}\treal {counts['real']}\texplained {counts['explained']}")


@app.command()
def annotate(
    dataset: Annotated[
        Path, typer.Argument(metavar="DATASET", help="FakeClue JSON, JSON Lines, or a folder with real/ and fake/.")
    ],
    images: Annotated[str, typer.Option(metavar="FOLDER|s3://…", help="Where the images of the records are.")],
    output: Annotated[
        Path,
        typer.Option(
            metavar="FILE.json", help="The dataset with explanations. If the file was begun, the run continues."
        ),
    ],
    annotator: Annotated[
        list[str],
        typer.Option(
            metavar="MODEL[@BASE_URL]", help="A model that explains each image. Three are usual; give the option again."
        ),
    ],
    aggregator: Annotated[
        str, typer.Option(metavar="MODEL[@BASE_URL]", help="The model that joins their explanations into one.")
    ],
    requests_per_minute: Annotated[
        float, typer.Option(callback=finite, min=0.1, help="How many requests to each BASE_URL at most, with retries.")
    ] = 60,
    concurrency: Annotated[
        int, typer.Option(min=1, max=256, help="How many images are explained at the same time.")
    ] = 4,
    timeout: Annotated[float, typer.Option(callback=finite, min=0.1, help="Seconds that one answer may take.")] = 120,
    max_tokens: Annotated[int, typer.Option(min=16, help="The longest answer. Hidden reasoning counts.")] = 1500,
    prices: Annotated[
        Path | None, typer.Option(help="A TOML file: for each [MODEL], input and output in USD per million tokens.")
    ] = None,
    input_price: Annotated[
        float | None, typer.Option(callback=finite, min=0, help="USD per million input tokens, for all models.")
    ] = None,
    output_price: Annotated[
        float | None, typer.Option(callback=finite, min=0, help="USD per million output tokens, for all models.")
    ] = None,
    max_cost: Annotated[
        float | None,
        typer.Option(callback=finite, min=0, help="How many USD all runs of this output may cost together."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="How many records at most.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first fault.")] = False,
    as_json: Json = False,
) -> None:
    """Write explanations for labelled images, through any OpenAI-compatible endpoint. Costs money; can be resumed."""
    try:
        from worker.lab.annotation.start import Options, annotate_as_asked
    except ImportError as error:
        raise ConfigurationError(f"annotate: {error}; install fakesweep[annotate]") from error
    from producers.reporting import progress

    options = Options(
        dataset=dataset,
        images=images,
        output=output,
        annotators=tuple(annotator),
        aggregator=aggregator,
        requests_per_minute=requests_per_minute,
        concurrency=concurrency,
        timeout_s=timeout,
        max_tokens=max_tokens,
        prices=prices,
        input_price=input_price,
        output_price=output_price,
        max_cost=max_cost,
        limit=limit,
        strict=strict,
    )
    settings = environment()
    with progress.shown("annotating", total=None) as tell:
        done = annotate_as_asked(options, settings, os.environ, warn=progress.Warnings(), tell=tell)
    print_json(done) if as_json else _show_annotated(done)


def _show_annotated(done: dict[str, Any]) -> None:
    """The figures of a run of annotate, for a person."""
    faults = ", ".join(f"{cause} {count}" for cause, count in done["faults"].items()) or "none"
    typer.echo(f"{done['annotated']} of {done['records']} annotated: {done['output']}")
    typer.echo(f"faults: {faults}; general prompt: {done['general_prompt']}; agreement: {done['agreement']}")
    for model, used in done["costs"]["models"].items():
        typer.echo(f"{model}: {_used(used)}")
    typer.echo(f"in total: {_used(done['costs']['total'])}")


def _used(used: dict[str, Any]) -> str:
    paid = "" if used["usd"] is None else f", {used['usd']:.4f} USD"
    return f"{used['requests']} requests, {used['input_tokens']} tokens in, {used['output_tokens']} out{paid}"
