"""Whether the models of all detectors of a worker fit on a GPU together."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from producers.checking.gpu import Card, cards_here
from producers.checking.model import all_models, has_vllm_for_cpus
from producers.checking.model_files import Model
from producers.checking.rows import Check, Process, Row, Subject, ok, skipped, warning, wrong
from worker.settings import Settings

if TYPE_CHECKING:
    from worker.detector.inspection.together import Misfit


def _together(subject: Subject) -> Iterator[Row]:
    models = _models_on_gpu(all_models(subject), subject.settings)
    if len(models) < 2:  # noqa: PLR2004 - nothing to add up
        yield skipped("only one model runs on the GPU" if models else "no model runs on the GPU")
        return
    folders = [one.folder() for one in models]
    if missing := [one.description.name for one, folder in zip(models, folders, strict=True) if folder is None]:
        yield skipped(f"the files of {', '.join(missing)} are not on this machine yet; the worker checks it")
        return
    cards = cards_here(subject.environment)
    if not cards:
        yield skipped("no GPU is found")
        return
    yield from judged_together(models, [folder for folder in folders if folder], cards, subject.settings)


def judged_together(
    models: Sequence[Model], folders: Sequence[Path], cards: dict[int, Card], settings: Settings
) -> Iterator[Row]:
    """Gives a row for each card: whether these models, which lie in `folders`, fit on it together."""
    from worker.detector.inspection.model import ModelFolder
    from worker.detector.inspection.together import misfits, need_of
    from worker.detector.memory import Where

    share = settings.gpu_memory_utilization
    opened = [
        ModelFolder(folder, model.description, settings.engine, share)
        for model, folder in zip(models, folders, strict=True)
    ]
    needs = [need_of(one, Where.GPU) for one in opened]
    first = next(iter(cards), None)
    for number, card in cards.items():
        found = next(misfits(needs, {Where.GPU: card.total}, share), None)
        if found is None:
            yield ok(f"{' and '.join(one.name for one in needs)} fit on {card.name} together", str(number))
        else:
            yield _row(found, number, is_used=number == first)


def _row(misfit: "Misfit", number: int, *, is_used: bool) -> Row:
    """Returns the row about a card. Without --gpus, which this check does not know, a worker uses the first card."""
    if misfit.starts:
        return warning(misfit.found, misfit.remedy, str(number))
    if is_used:
        return wrong(misfit.found, misfit.remedy, str(number))
    return warning(misfit.found, f"nothing, if --gpus does not name this GPU; otherwise {misfit.remedy}", str(number))


def _models_on_gpu(models: Sequence[Model], settings: Settings) -> list[Model]:
    from worker.detector.description import ClassifierDescription, Device

    found = []
    for model in models:
        if isinstance(model.description, ClassifierDescription):
            on_gpu = model.description.device is not Device.CPU
        else:
            on_gpu = settings.engine != "vllm" or not has_vllm_for_cpus()
        if on_gpu:
            found.append(model)
    return found


CHECKS = (
    Check(
        "models together", _together, "lower FAKESWEEP_GPU_MEMORY_UTILIZATION (docs/second-opinions.md)", "model files",
        frozenset({Process.WORKER}),
    ),
)  # fmt: skip
