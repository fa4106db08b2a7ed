"""`python -m tests.chaos.worker FOLDER SECONDS`: a worker whose engine is scripted and fails on command.

Everything else is real. The engine takes SECONDS for an image. A file in FOLDER/engine is an order to the engine: if
its name is die, hang, fail or crash, the engine fails in this way at its next image, and removes the file. Each
delivery of a message is written to FOLDER/deliveries.
"""

import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from celery import signals
from PIL.Image import Image

from tests.redis_visibility import come_back_after
from worker.__main__ import main
from worker.detector.engine import Completion
from worker.detector.progress import Progress
from worker.detector.vlm import VlmDetector
from worker.errors import EngineDeadError, EngineGenerateError
from worker.settings import Settings
from worker.testing import ScriptedEngine, scripted_description

VISIBILITY_S = 8
"""After how many seconds Redis redelivers a killed worker's messages. Longer than the longest delay of a retry."""


class FailingEngine(ScriptedEngine):
    """The scripted engine, with the watchdog of the vLLM engine, and with failures on command."""

    def __init__(self, folder: Path, seconds: float, stall_s: float) -> None:
        super().__init__(fail=self._strike)
        self._folder, self._seconds = folder, seconds
        self._progress = Progress(stall_s, first_s=stall_s)
        self._hung = False

    def complete(self, images: Sequence[Image], **options: Any) -> list[Completion | EngineGenerateError]:
        """See Engine."""
        with self._progress.images(len(images)):
            return super().complete(images, **options)

    def check(self) -> None:
        """See Engine."""
        super().check()
        self._progress.check()

    def _strike(self, _: Image) -> None:
        time.sleep(self._seconds)
        for order in self._folder.iterdir():
            with suppress(FileNotFoundError):
                order.unlink()
                self._obey(order.name)
        while self._hung:
            self._progress.check()
            time.sleep(0.1)
        self._progress.advance()

    def _obey(self, how: str) -> None:
        match how:
            case "die":
                raise EngineDeadError("told to die")
            case "hang":
                self._hung = True
            case "fail":
                raise EngineGenerateError("told to fail")
            case "crash":
                os._exit(139)


def watch_deliveries(file: Path, ready: Path) -> None:
    """Writes a line for each delivery of a message: its id, whether it is a redelivery, and the worker's process id.

    When the worker takes messages, it makes a file in `ready`, which has the name of its process id.
    """

    def delivered(task_id: str, task: Any, **_: Any) -> None:
        line = f"{task_id} {int(bool((task.request.delivery_info or {}).get('redelivered')))} {os.getpid()}\n"
        with file.open("ab", buffering=0) as journal:
            journal.write(line.encode())

    def is_ready(**_: Any) -> None:
        (ready / str(os.getpid())).touch()

    signals.task_prerun.connect(delivered, weak=False)
    signals.worker_ready.connect(is_ready, weak=False)


def _main() -> int:
    folder, seconds = Path(sys.argv[1]), float(sys.argv[2])
    watch_deliveries(folder / "deliveries", folder / "ready")
    come_back_after(VISIBILITY_S)

    def start(description: Any, settings: Settings) -> Any:
        return VlmDetector(FailingEngine(folder / "engine", seconds, settings.engine_stall_s), description)

    return main(describe=lambda _: scripted_description(), start=start)


if __name__ == "__main__":
    sys.exit(_main())
