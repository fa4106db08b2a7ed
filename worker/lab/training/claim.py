"""Guards the output folder of a training: which training it belongs to, and what in it is unfinished."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from worker.errors import ConfigurationError
from worker.files import lock, replacing

WORK, RUN, RECORD = ".training", "run.json", "training.json"
HELD_OUT = "held-out.json"
"""The records that a training did not learn from."""
_A_STAGE = "[0-9]*-*"
_A_MODEL = ("detector.toml", "config.json", "*.safetensors")


@contextmanager
def one_writer(output: Path) -> Iterator[None]:
    """Gives this process alone the folder, until the end of the body or its death.

    Raises ConfigurationError if another process has the folder, or if it holds a model that no training made.
    """
    work = output / WORK
    if (output / RECORD).exists():
        yield  # the training has ended: nothing is written
        return
    if not work.exists() and any(path for one in _A_MODEL for path in output.glob(one)):
        raise ConfigurationError(f"--output: {output} holds a model already; give another folder")
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"--output: {output} cannot be created or written to ({error.strerror})") from None
    with (work / "lock").open("w") as file:
        lock(file, f"--output: another process trains into {output}; wait for it to end")
        yield


def is_finished(output: Path, run: dict[str, Any], processes: int) -> bool:
    """Whether exactly this training, `run`, has ended. Claims the folder for it if it has not begun.

    Checkpoints count steps, and the size of a step depends on the number of processes. So an unfinished training must
    continue with the same number. Raises ConfigurationError if the folder holds another training.
    """
    before = next((path for path in (output / RECORD, output / WORK / RUN) if path.exists()), None)
    wanted = json.loads(json.dumps(run))
    if before is None or before.name == RUN:
        wanted["processes"] = processes
    if before is None:
        write_json(output / WORK / RUN, wanted)
        return False
    held = json.loads(before.read_text(encoding="utf-8"))
    changed = [name for name, value in wanted.items() if held.get(name) != value]
    if changed and before.name == RUN and not any((output / WORK).glob(_A_STAGE)):
        write_json(before, wanted)  # nothing has been learned yet: perhaps the dataset was corrected
        return False
    if changed:
        raise ConfigurationError(
            f"--output: {output} holds another training ({', '.join(changed)} differ); give another folder"
        )
    return before.name == RECORD


def write_json(path: Path, content: Any) -> None:
    """Replaces the file at `path` as a whole. Creates its folder if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
