"""Keeps the newest checkpoints of a stage, and finds the one from which a killed training continues.

A checkpoint is complete while it has its state: the trainer writes that file last, and it is removed first here.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerState, TrainingArguments

_KEPT = 2
"""The newest checkpoint, and one more in case the newest is damaged."""

_STATE = "trainer_state.json"


class KeepNewest(TrainerCallback):  # type: ignore[misc]
    """Removes older checkpoints after each new one.

    The trainer's own removal (`save_total_limit`) can be killed when a folder has lost some files but not its state.
    Such a checkpoint looks complete. The trainer would continue from it without the optimizer or the random numbers,
    and not say so.
    """

    def on_save(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        """Is called by the trainer when a checkpoint is complete."""
        if state.is_world_process_zero:
            for old in _checkpoints(Path(args.output_dir))[:-_KEPT]:
                _remove(old)


def last_complete_checkpoint(folder: Path) -> Path | None:
    """Returns the newest complete checkpoint of a stage. Removes newer ones that a kill left incomplete."""
    for newest in reversed(_checkpoints(folder)):
        try:
            json.loads((newest / _STATE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            _remove(newest)
        else:
            return newest
    return None


def _checkpoints(folder: Path) -> list[Path]:
    """Returns the checkpoints in the folder, the oldest first."""
    return sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))


def _remove(checkpoint: Path) -> None:
    (checkpoint / _STATE).unlink(missing_ok=True)
    shutil.rmtree(checkpoint, ignore_errors=True)
