"""The composition root: settings -> parts -> tasks -> Celery. `fakesweep worker` and `python -m worker`."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import FrameType
from typing import NoReturn

import psutil
import structlog
from celery import Celery, signals
from celery.apps.worker import Worker
from prometheus_client import CollectorRegistry

from worker import broker, telemetry
from worker.budget import divide_memory
from worker.cpus import default_threads, usable_cpus
from worker.database import Database, actors, connect
from worker.database.detectors import register_detector
from worker.database.makers import register_maker
from worker.detector.description import DetectorDescription
from worker.detector.detector import Detector, warm_up
from worker.detector.further import check_fit_together, faults_of_further, load_further
from worker.detector.loading import load_description
from worker.detector.maker import maker_of
from worker.detector.start import check_memory, start_detector
from worker.errors import ConfigurationError, EngineDeadError, FakesweepError
from worker.health import Health, Status
from worker.images import SizeLimits
from worker.lanes import LaneAMQP, LanePool
from worker.messages import LIVE_QUEUE, SCAN_QUEUE
from worker.metrics import Metrics
from worker.metrics.declared import READY, WORKER, WORKER_INFO
from worker.migrate import check_schema
from worker.parts import FurtherDetector
from worker.path import Parts
from worker.provenance.open import open_readers
from worker.replicas import Replica, hang_up
from worker.settings import Settings
from worker.stopping import StoppedByHangUp
from worker.storage import ImageStore, open_stores
from worker.tasks import register_tasks

log = structlog.get_logger(__name__)

EXIT_OK, EXIT_FAILED, EXIT_CONFIGURATION, EXIT_ENGINE_DEAD = 0, 1, 2, 70

LoadDescription = Callable[[Settings], DetectorDescription]
LoadFurther = Callable[[Settings], Sequence[DetectorDescription]]
StartDetector = Callable[[DetectorDescription, Settings], Detector]
CheckMemory = Callable[[DetectorDescription, Sequence[DetectorDescription], Settings], None]
OpenStore = Callable[[Settings], ImageStore]


def main(
    *,
    describe: LoadDescription = load_description,
    describe_further: LoadFurther = load_further,
    check_fit: CheckMemory = check_memory,
    start: StartDetector = start_detector,
    open_store: OpenStore = open_stores,
    registry: CollectorRegistry | None = None,
) -> int:
    """Runs a worker until SIGTERM. Returns the exit code.

    The arguments make the parts that tests and benchmarks replace: the detector's description, those of further
    detectors, the check that their models fit into memory, the detectors, and the store that images are fetched from.
    Our own metrics are registered in `registry`, or in a new registry.
    """
    for number in (signal.SIGTERM, *hang_up()):
        signal.signal(number, _exit_before_ready)
    replica = Replica.join()
    try:
        settings = Settings.from_environment()
        telemetry.configure_logging(settings)
        telemetry.init_sentry(settings)
        if replica:
            telemetry.name_replica(replica.number)
        else:
            telemetry.warn_of_unknown_variables(os.environ)
        metrics = Metrics.declare(WORKER, registry)
        health = Health(_die, metrics.registry)
        metrics.watch(READY, lambda: health.status == Status.READY)
        with health.served(settings.health_port):
            app, parts = build(settings, describe, start, open_store, metrics, describe_further, check_fit)
            detector = parts[SCAN_QUEUE].description.name
            metrics.inform(WORKER_INFO, replica=str(replica.number) if replica else "", detector=detector)
            return serve(app, parts, settings, health, replica.node_name if replica else None)
    except ConfigurationError as error:
        if replica:
            replica.report(error)
        else:
            print(f"fakesweep worker: {error}", file=sys.stderr)
        return EXIT_CONFIGURATION
    except EngineDeadError as error:  # during the warm-up
        _die(error)
    except FakesweepError as error:
        print(f"fakesweep worker: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_FAILED
    finally:
        _end_children()


def build(
    settings: Settings,
    describe: LoadDescription,
    start: StartDetector,
    open_store: OpenStore,
    metrics: Metrics,
    describe_further: LoadFurther = load_further,
    check_fit: CheckMemory = check_memory,
) -> tuple[Celery, dict[str, Parts]]:
    """Builds the Celery app with its task, and the parts that the task works with, by queue. Cheap checks come first.

    Raises ConfigurationError, StorageUnavailableError, EngineDeadError.
    """
    description, further = describe(settings), describe_further(settings)
    check_fit_together(description, further)
    threads = {SCAN_QUEUE: settings.threads or default_threads(), LIVE_QUEUE: settings.live_threads}
    memory = divide_memory(settings, sum(threads.values()), description.preprocessing.edge)
    database, for_live = _databases(settings)
    check_schema(database)
    app = broker.create_app(settings.broker_url.get_secret_value(), tls=settings.broker_tls, amqp=LaneAMQP)
    app.conf.lane_threads = {queue: threads[queue] for queue in settings.queues}
    app.conf.metrics = metrics
    broker.check_broker(app)
    scanned, submitted = open_readers(settings.trust_list)
    if further:
        check_fit(description, further, settings)
    detector = start(description, settings)
    warm_up(detector)
    also = _start_further(further, detector, settings, start, database)
    scans = Parts(
        store=open_store(settings),
        database=database,
        detector=detector,
        detector_id=register_detector(database, detector.description.row()),
        maker_id=_maker(database, detector),
        also=also,
        files=memory.files,
        pixels=memory.pixels,
        decoders=_decoders(),
        max_bytes=settings.max_bytes,
        limits=SizeLimits(settings.max_pixels, settings.min_edge),
        retry_limit=settings.retry_limit,
        metrics=metrics.bound(queue=SCAN_QUEUE),
        provenance=scanned,
    )
    # A live image never waits for an image of a scan: live images have connections and decoders of their own, and a
    # part of the budgets.
    counted = metrics.bound(queue=LIVE_QUEUE)
    live = replace(scans, live=True, database=for_live, decoders=_decoders(), metrics=counted, provenance=submitted)
    parts = {SCAN_QUEUE: scans, LIVE_QUEUE: live}
    register_tasks(app, parts, retry_delay_s=settings.retry_delay_s, on_engine_death=_die)
    return app, parts


def _start_further(
    descriptions: Sequence[DetectorDescription],
    main: Detector,
    settings: Settings,
    start: StartDetector,
    database: Database,
) -> tuple[FurtherDetector, ...]:
    """Starts the further detectors after the main one. If one cannot start, the others are closed."""
    started = [main]
    try:
        for description in descriptions:
            with faults_of_further(description.name):
                started.append(start(description, settings))
                warm_up(started[-1])
    except BaseException:
        for one in started:
            one.close()
        raise
    return tuple(
        FurtherDetector(one, register_detector(database, one.description.row(), further=True), _maker(database, one))
        for one in started[1:]
    )


def _maker(database: Database, detector: Detector) -> int:
    return register_maker(database, maker_of(detector, os.environ.get("CUDA_VISIBLE_DEVICES")))


def _databases(settings: Settings) -> tuple[Database, Database]:
    """Returns two handles of the database: for scans, and for live images, which get a quarter of the connections."""
    url, live = settings.database_url.get_secret_value(), settings.database_connections // 4 or 1
    actor = actors.process("worker")
    return connect(url, pool_size=settings.database_connections - live, actor=actor), connect(
        url, pool_size=live, actor=actor
    )


def _decoders() -> threading.BoundedSemaphore:
    """Limits the images that are decoded at the same time to the number of CPUs. More would only take more memory."""
    return threading.BoundedSemaphore(usable_cpus())


def serve(app: Celery, parts: Mapping[str, Parts], settings: Settings, health: Health, node_name: str | None) -> int:
    """Consumes messages until SIGTERM. Returns the exit code.

    On SIGTERM, it finishes the messages whose images are fetched, and puts the others back into their queues. If
    `node_name` is None, Celery chooses the name.
    """

    def ready(**_: object) -> None:
        health.status = Status.READY
        log.info("worker_ready", queues=settings.queues, threads=app.conf.lane_threads)

    def shutting_down(**_: object) -> None:
        health.status = Status.STOPPING
        log.info("worker_stopping")
        parts[SCAN_QUEUE].files.stop()  # the same budget as that of live images

    signals.worker_ready.connect(ready, weak=False)
    signals.worker_shutting_down.connect(shutting_down, weak=False)
    worker = _celery_worker(app, settings, node_name)
    try:
        with health.watching(*_detectors(parts)):
            worker.start()
    finally:
        # Not in a handler of worker_shutdown: with a pool of threads, that runs inside the signal handler, before the
        # running tasks have ended.
        for detector in _detectors(parts):
            detector.close()
        for one in parts.values():
            if one.provenance:
                one.provenance.close()
    log.info("worker_stopped")
    return int(worker.exitcode or EXIT_OK)


def _detectors(parts: Mapping[str, Parts]) -> list[Detector]:
    """The main detector and the further ones. Both queues have the same."""
    return [parts[SCAN_QUEUE].detector, *(one.detector for one in parts[SCAN_QUEUE].also)]


def _celery_worker(app: Celery, settings: Settings, node_name: str | None) -> Worker:
    return StoppedByHangUp(
        app=app,
        hostname=node_name,
        pool=LanePool,
        concurrency=sum(app.conf.lane_threads.values()),
        queues=list(settings.queues),
        loglevel=settings.log_level,
        without_gossip=True,
        without_mingle=True,
        quiet=True,
    )


def _die(error: EngineDeadError) -> NoReturn:
    """Ends the process immediately. Its messages stay unacknowledged, and the supervisor starts a new process."""
    log.critical("engine_dead", reason=str(error))
    telemetry.flush()
    _end_children()
    os._exit(EXIT_ENGINE_DEAD)


def _exit_before_ready(_number: int, _frame: FrameType | None) -> None:
    """Handles SIGTERM and SIGHUP while the engine loads. Celery installs its own handler when it starts."""
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
