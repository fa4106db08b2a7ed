"""A whole worker as a process, but for the model: Celery, broker, S3 and Postgres are real, the engine is scripted.

`python -m tests.scripted_worker [seconds an image takes] [grey level that kills the process]`
"""

import os
import sys
import time

from PIL.Image import Image

from worker import broker, telemetry
from worker.__main__ import _die, serve
from worker.database import connect
from worker.database.detectors import register_detector
from worker.path import Parts
from worker.settings import Settings
from worker.slots import Slots
from worker.storage import open_stores
from worker.tasks import register_tasks
from worker.testing import ScriptedEngine, scripted_description


def main() -> int:
    seconds, poison = float(sys.argv[1]), int(sys.argv[2])

    def judged(image: Image) -> None:
        time.sleep(seconds)
        if image.getpixel((0, 0)) == (poison, poison, poison):
            os._exit(139)

    settings = Settings.from_environment()
    telemetry.configure_logging(settings)
    database = connect(settings.database_url.get_secret_value())
    app = broker.create_app(settings.broker_url.get_secret_value())
    broker.check_broker(app)
    engine, slots = ScriptedEngine(fail=judged), Slots(settings.images_in_flight)
    description = scripted_description()
    detector_id = register_detector(database, description.row())
    parts = Parts(
        open_stores(settings), database, engine, description, detector_id, slots, retry_limit=settings.retry_limit
    )
    register_tasks(app, parts, retry_delay_s=settings.retry_delay_s, on_engine_death=_die)
    return serve(app, engine, slots, settings)


if __name__ == "__main__":
    sys.exit(main())
