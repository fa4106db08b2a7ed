"""The worker as a process, but for the model: Celery, broker, S3 and Postgres are real, the engine is scripted.

`python -m tests.scripted_worker [seconds an image takes] [grey level that kills the process] [file]`. Each image that
is judged adds a line to the file.
"""

import os
import sys
import time
from pathlib import Path

from PIL.Image import Image

from worker.__main__ import main
from worker.testing import ScriptedEngine, scripted_description

if __name__ == "__main__":
    seconds, poison = float(sys.argv[1]), int(sys.argv[2])
    judged_file = Path(sys.argv[3]) if sys.argv[3:] else None

    def judged(image: Image) -> None:
        time.sleep(seconds)
        if image.getpixel((0, 0)) == (poison, poison, poison):
            os._exit(139)
        if judged_file:
            with judged_file.open("a") as file:
                file.write("judged\n")

    engine = ScriptedEngine(fail=judged)
    sys.exit(main(describe=lambda _: scripted_description(), start=lambda description, _: (description, engine)))
