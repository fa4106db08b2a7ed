"""The output folder of a training: whose it is, and what in it is not finished."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from worker.errors import ConfigurationError
from worker.files import lock, replacing

WORK, RUN, RECORD = ".training", "run.json", "training.json"
_A_STAGE = "[0-9]*-*"
_A_MODEL = ("detector.toml", "config.json", "*.safetensors")


@contextmanager
def one_writer(output: Path) -> Iterator[None]:
    """The folder for this process alone, until the end or its death.

    Raises ConfigurationError when another process has it, or when a model lies there that no training has left.
    """
    work = output / WORK
    if (output / RECORD).exists():
        yield  # it has ended: nothing is written
        return
    if not work.exists() and any(path for one in _A_MODEL for path in output.glob(one)):
        raise ConfigurationError(f"--output: {output} holds a model already; give another folder")
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"--output: {output} cannot be a folder to write into ({error.strerror})") from None
    with (work / "lock").open("w") as file:
        lock(file, f"--output: another process trains into {output}; wait for it to end")
        yield


def is_finished(output: Path, run: dict[str, Any], processes: int) -> bool:
    """Whether this very training, `run`, has ended; claims the folder for it where it has not begun.

    Checkpoints count in steps, whose size goes with the number of processes: what is not finished needs as many as it
    began with. Raises ConfigurationError when the folder holds another training.
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
        write_json(before, wanted)  # nothing has been learned yet: a faulty dataset was mended, say
        return False
    if changed:
        raise ConfigurationError(
            f"--output: {output} holds another training ({', '.join(changed)} differ); give another folder"
        )
    return before.name == RECORD


def write_json(path: Path, content: Any) -> None:
    """Replace the file at `path` as a whole; its folder is made when it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
