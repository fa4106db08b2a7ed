"""Serves the API as a process: with real uvicorn, and with the broker and Postgres that the environment names."""

import argparse
import os
from typing import Any

import uvicorn
from celery import Celery

from tests.api import mounted
from tests.desk import settings
from worker import broker
from worker.database import connect
from worker.settings import Settings


class DyingCelery(Celery):  # type: ignore[misc]  # Celery is not typed
    """A broker's client that ends the process, as kill -9 does, instead of publishing message number `last` + 1."""

    last = 0

    def send_task(self, *args: Any, **options: Any) -> Any:
        """See Celery."""
        if self.last <= 0:
            os._exit(137)
        self.last -= 1
        return super().send_task(*args, **options)


def main() -> None:
    """Serves until it is ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--dies-after", type=int, help="dies instead of publishing the message after this many")
    options = parser.parse_args()
    given = Settings.from_environment()
    celery = broker.create_app(given.broker_url.get_secret_value())
    if options.dies_after is not None:
        celery.__class__ = DyingCelery
        celery.last = options.dies_after
    own = settings(FAKESWEEP_ALLOWED_FOLDERS=",".join(given.allowed_folders))
    app = mounted(connect(given.database_url.get_secret_value()), broker=celery, settings=own)
    uvicorn.run(app, host="127.0.0.1", port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
