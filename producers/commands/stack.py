"""The command that combines several detectors into one score."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from producers.commands.options import Json, environment, needs_extra, open_database, print_json, settings_for
from worker.errors import UsageError

app = typer.Typer()


@dataclass(frozen=True)
class Given:
    """What the command was given to fit a stack. Without `report`, `split` is the share of `evaluations` to fit on."""

    evaluations: list[Path]
    report: list[Path]
    output: Path
    page: Path | None
    false_positive_rate: float
    miss_rate: float | None
    split: float
    seed: int


@app.command()
def stack(
    evaluations: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FIT...]", help="Outputs of evaluate, one for each detector, on the same images."),
    ] = None,
    *,
    report: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="REPORT",
            help="An output of evaluate for other images, to measure on. Repeat the option for each detector.",
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option(metavar="FILE.toml", help="Where the stack is written.")] = None,
    false_positive_rate: Annotated[
        float, typer.Option(min=1e-6, max=0.5, help="Share of the real images that may be called fake.")
    ] = 0.01,
    miss_rate: Annotated[
        float | None, typer.Option(min=0, max=0.5, help="Share of the fakes that may be called real.")
    ] = None,
    split: Annotated[
        float | None,
        typer.Option(min=0.01, max=0.99, help="Without --report: the share of FIT to fit on. Default: 0.5."),
    ] = None,
    seed: Annotated[int, typer.Option(help="The seed of the split.")] = 0,
    page: Annotated[Path | None, typer.Option(metavar="FILE.html", help="A page with the whole report.")] = None,
    store: Annotated[
        Path | None,
        typer.Option(metavar="FILE.toml", help="Store this stack in the database and put it in use, also again."),
    ] = None,
    withdraw: Annotated[
        str | None, typer.Option(metavar="NAME|FINGERPRINT", help="Take this stored stack out of use.")
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="Show the stored stacks, the newest choice first.")] = False,
    as_json: Json = False,
) -> None:
    """Combine several detectors into one score: fit it, say whether it helps, and store it.

    The detectors' evaluations are fitted on one set and measured on another. --store makes the combined score appear
    in results, reports and the view combined_scores. It takes a file that was fitted before. --withdraw undoes it.
    """
    chosen = [name for name, given in (("--store", store), ("--withdraw", withdraw), ("--list", list_)) if given]
    if chosen:
        if len(chosen) > 1 or evaluations or report or output or page or split is not None:
            raise UsageError(f"{chosen[0]} works on stacks that were fitted before: give nothing else")
        _stored(store, withdraw, as_json=as_json)
        return
    if not evaluations or not output:
        raise UsageError("give two evaluations or more and --output FILE.toml, or --store FILE.toml")
    if report and split is not None:
        raise UsageError("--split divides one set: give either it or --report")
    given = Given(
        evaluations, report or [], output, page, false_positive_rate, miss_rate, split=split or 0.5, seed=seed
    )
    _fit(given, as_json=as_json)


def _fit(given: Given, *, as_json: bool) -> None:
    from producers.reporting import progress

    settings_for(None)
    try:
        from worker.lab.evaluation import outputs, stack_page
        from worker.lab.evaluation.calibrate import Wanted
        from worker.lab.evaluation.evaluated import read_evaluated
        from worker.lab.evaluation.joint import divided, join
        from worker.lab.evaluation.stack import stack as stacked_of
    except ImportError as error:
        raise needs_extra("evaluate", error) from error
    stack_page.check_new(given.output)
    if given.page:
        outputs.check_page(given.page, "--page")
    fit = join([read_evaluated(one) for one in given.evaluations], role="FIT")
    if given.report:
        sets = fit, join([read_evaluated(one) for one in given.report], role="REPORT")
    else:
        sets = divided(fit, given.split, given.seed)
    stacked = stacked_of(*sets, Wanted("platt", given.false_positive_rate, given.miss_rate))
    stack_page.write_stack(stacked.stack, given.output)
    if given.page:
        stack_page.write_stack_page(stacked, given.page)
    for warning in stacked.warnings:
        progress.say(f"warning: {warning}")
    if as_json:
        print_json({"output": str(given.output), **stack_page.as_json(stacked)})
        return
    for line in stack_page.as_lines(stacked):
        typer.echo(progress.printable(line))
    typer.echo(progress.printable(f"written to {given.output}"))


def _stored(store: Path | None, withdraw: str | None, *, as_json: bool) -> None:
    """Puts a stack in use, takes one out of use, or shows all."""
    from producers.reporting.progress import printable
    from producers.stacks import known_stacks, read_stack, store_stack, withdraw_stack

    stack = read_stack(store) if store else None
    database = open_database(environment())
    if stack:
        is_new = store_stack(database, stack)
        content: dict[str, Any] = {"stack": stack.name, "fingerprint": stack.fingerprint, "new": is_new}
        lines = [f"{stack.name} is in use {'now' if is_new else 'already'}: {stack.fingerprint}"]
    elif withdraw:
        gone = withdraw_stack(database, withdraw)
        content = {"stack": gone.name, "fingerprint": gone.fingerprint, "withdrawn": True}
        lines = [f"{gone.name} is withdrawn: {gone.fingerprint}"]
    else:
        known = known_stacks(database)
        content = {"stacks": [asdict(one) | {"since": one.since.isoformat()} for one in known]}
        lines = [
            f"{one.name}  {one.fingerprint}  {'in use' if one.in_use else 'withdrawn'}  {one.since:%Y-%m-%d %H:%M}"
            for one in known
        ]
    if as_json:
        print_json(content)
        return
    for line in lines:
        typer.echo(printable(line))
