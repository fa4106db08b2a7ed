"""The composition root: settings -> parts -> tasks -> Celery. `fakesweep worker` and `python -m worker`."""

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

import psutil
import structlog
from celery import Celery, signals
from celery.apps.worker import Worker

from worker import broker, telemetry
from worker.database import connect
from worker.database.detectors import register_detector
from worker.detector.description import DetectorDescription
from worker.detector.engine import Engine
from worker.detector.judge import warm_up
from worker.detector.start import start_detector
from worker.detector.supply import load_description
from worker.errors import ConfigurationError, EngineDeadError, FakesweepError
from worker.health import Health, Status
from worker.migrate import check_schema
from worker.path import Parts
from worker.replicas import Replica
from worker.settings import Settings
from worker.slots import Slots
from worker.storage import ImageStore, open_stores
from worker.tasks import register_tasks

log = structlog.get_logger(__name__)

EXIT_OK, EXIT_FAILED, EXIT_CONFIGURATION, EXIT_ENGINE_DEAD = 0, 1, 2, 70

LoadDescription = Callable[[Settings], DetectorDescription]
StartDetector = Callable[[DetectorDescription, Settings], tuple[DetectorDescription, Engine]]
OpenStore = Callable[[Settings], ImageStore]


def main(
    *,
    describe: LoadDescription = load_description,
    start: StartDetector = start_detector,
    open_store: OpenStore = open_stores,
) -> int:
    """Runs a worker until it is told to stop. Returns the exit code.

    The arguments make the parts that tests and benchmarks replace: the detector's description, its engine, and the
    store that images are fetched from.
    """
    signal.signal(signal.SIGTERM, _exit_before_ready)
    replica = Replica.join()
    try:
        settings = Settings.from_environment()
        telemetry.configure_logging(settings)
        telemetry.init_sentry(settings)
        if replica:
            telemetry.name_replica(replica.number)
        health = Health(_die)
        with health.served(settings.health_port):
            app, parts = build(settings, describe, start, open_store)
            return serve(app, parts, settings, health, replica.node_name if replica else None)
    except ConfigurationError as error:
        if replica:
            replica.report(error)
        else:
            print(f"fakesweep worker: {error}", file=sys.stderr)
        return EXIT_CONFIGURATION
    except EngineDeadError as error:  # while it warmed up
        _die(error)
    except FakesweepError as error:
        print(f"fakesweep worker: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_FAILED
    finally:
        _end_children()


def build(
    settings: Settings, describe: LoadDescription, start: StartDetector, open_store: OpenStore
) -> tuple[Celery, Parts]:
    """Builds the Celery app with its task, and the parts that the task works with. Cheap checks come first.

    Raises ConfigurationError, StorageUnavailableError, EngineDeadError.
    """
    description = describe(settings)
    database = connect(settings.database_url.get_secret_value(), pool_size=settings.threads)
    check_schema(database)
    app = broker.create_app(settings.broker_url.get_secret_value())
    broker.check_broker(app)
    description, engine = start(description, settings)
    warm_up(engine, description.preprocessing.edge)
    parts = Parts(
        store=open_store(settings),
        database=database,
        engine=engine,
        description=description,
        detector_id=register_detector(database, description.row()),
        slots=Slots(settings.images_in_flight),
        max_pixels=settings.max_pixels,
        retry_limit=settings.retry_limit,
    )
    register_tasks(app, parts, retry_delay_s=settings.retry_delay_s, on_engine_death=_die)
    return app, parts


def serve(app: Celery, parts: Parts, settings: Settings, health: Health, node_name: str | None) -> int:
    """Consumes messages until SIGTERM. Returns the exit code.

    On SIGTERM it finishes the images that hold slots and gives the other messages back to the queue. When `node_name`
    is None, Celery chooses the name.
    """

    def ready(**_: object) -> None:
        health.status = Status.READY
        log.info("worker_ready", queues=settings.queues, threads=settings.threads)

    def shutting_down(**_: object) -> None:
        health.status = Status.STOPPING
        log.info("worker_stopping")
        parts.slots.stop()

    signals.worker_ready.connect(ready, weak=False)
    signals.worker_shutting_down.connect(shutting_down, weak=False)
    worker = _celery_worker(app, settings, node_name)
    try:
        with health.watching(parts.engine):
            worker.start()
    finally:
        # Not in a worker_shutdown handler: with a threads pool that runs inside the signal handler, before the pool
        # has drained.
        parts.engine.close()
    log.info("worker_stopped")
    return int(worker.exitcode or EXIT_OK)


def _celery_worker(app: Celery, settings: Settings, node_name: str | None) -> Worker:
    return Worker(
        app=app,
        hostname=node_name,
        pool="threads",
        concurrency=settings.threads,
        queues=list(settings.queues),
        loglevel=settings.log_level,
        without_gossip=True,
        without_mingle=True,
        quiet=True,
    )


def _die(error: EngineDeadError) -> NoReturn:
    """Ends the process at once: what it held stays unacknowledged, and the supervisor starts a fresh one."""
    log.critical("engine_dead", reason=str(error))
    telemetry.flush()
    _end_children()
    os._exit(EXIT_ENGINE_DEAD)


def _exit_before_ready(_number: int, _frame: FrameType | None) -> None:
    """Handles SIGTERM while the engine loads. Celery installs its own handler when it starts."""
    raise SystemExit(EXIT_OK)


def _end_children() -> None:
    """Kills the child processes that vLLM may have left."""
    for child in psutil.Process().children(recursive=True):
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue


if __name__ == "__main__":
    sys.exit(main())
