"""A worker as a process with a scripted engine. Celery, the broker, S3 and Postgres are real."""

import argparse
import os
import sys
import time
from pathlib import Path

from PIL.Image import Image

from tests.redis_visibility import come_back_after
from worker.__main__ import main
from worker.detector.description import vlm_only
from worker.detector.vlm import VlmDetector
from worker.testing import ScriptedEngine, scripted_description

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seconds", type=float, help="seconds that the engine takes for an image")
    parser.add_argument("poison", type=int, help="an image of this grey level kills the process")
    parser.add_argument("--judged", type=Path, help="a file to which each judged image adds a line")
    parser.add_argument("--visibility", type=int, help="seconds after which Redis redelivers a message")
    options = parser.parse_args()
    if options.visibility:
        come_back_after(options.visibility)

    def judged(image: Image) -> None:
        time.sleep(options.seconds)
        if image.getpixel((0, 0)) == (options.poison,) * 3:
            os._exit(139)
        if options.judged:
            with options.judged.open("a") as file:
                file.write("judged\n")

    engine = ScriptedEngine(fail=judged)
    sys.exit(
        main(
            describe=lambda _: scripted_description(),
            start=lambda description, _: VlmDetector(engine, vlm_only(description, "the script")),
        )
    )
