"""Causes and heals faults. Each function causes a fault and returns the function that heals it."""

import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from random import Random
from uuid import uuid4

import psutil
import psycopg

from tests.chaos.bucket import NAME
from tests.chaos.ground import Ground
from tests.chaos.keeper import Kept
from tests.chaos.ledger import write
from tests.chaos.toxics import Toxic
from worker import broker
from worker.messages import JUDGE_IMAGES, SCAN_QUEUE, JudgeImages

Heal = Callable[[], bool]
"""Heals a fault. Returns whether the fault met anything: a fault that nothing noticed does not count."""


def kill_worker(ground: Ground, chance: Random, number: signal.Signals) -> Heal:
    """Sends the signal to a worker that has just begun with a message: at once, or one or two seconds later.

    If no worker begins within two seconds, a worker that waits for messages gets the signal.
    """
    ready = [worker for worker in ground.workers if ground.ready(worker)]
    if not ready:
        return lambda: False
    chosen = _began(ground, ready) or chance.choice(ready)
    time.sleep(chance.choice((0, 1, 2)))
    struck = chosen.send(number)
    return lambda: struck


def _began(ground: Ground, workers: Sequence[Kept], patience_s: float = 2.0) -> Kept | None:
    """Returns the worker to which the next message is delivered. Without this, kills on a slow machine hit nothing."""
    file, until = ground.deliveries, time.monotonic() + patience_s
    known = file.stat().st_size if file.exists() else 0
    while time.monotonic() < until:
        lines = file.read_bytes()[known:].decode().splitlines() if file.exists() else []
        began = {int(line.rpartition(" ")[2]) for line in lines if line.count(" ") == 2}
        for worker in workers:
            if worker.pid in began:
                return worker
        time.sleep(0.05)
    return None


def kill_producer(ground: Ground, chance: Random, number: signal.Signals) -> Heal:
    """Sends the signal to a producer that is connected to the broker."""
    at_work = [one for one in ground.producers if _connected(one, ground.links["broker"].port)]
    struck = bool(at_work) and chance.choice(at_work).send(number)
    return lambda: struck


def _connected(kept: Kept, port: int) -> bool:
    try:
        return kept.pid is not None and any(
            one.raddr and one.raddr.port == port for one in psutil.Process(kept.pid).net_connections("tcp")
        )
    except psutil.Error:
        return False


def restart_broker(ground: Ground, chance: Random, number: signal.Signals) -> Heal:
    """Ends the broker with the signal. Healing starts it again."""
    ground.broker.stop(number)
    return _started(ground.broker.start)


def restart_postgres(ground: Ground, chance: Random, number: signal.Signals) -> Heal:
    """Ends Postgres with the signal. Healing starts it again."""
    ground.postgres.stop(number)
    return _started(ground.postgres.start)


def _started(start: Callable[[], None]) -> Heal:
    def heal() -> bool:
        start()
        return True

    return heal


def kill_backend(ground: Ground, chance: Random) -> Heal:
    """Kills a Postgres process that serves a connection. Postgres then ends all other such processes, and recovers."""
    with psycopg.connect(ground.postgres.url, autocommit=True) as connection:
        query = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'fakesweep%'"
        pids = [row[0] for row in connection.execute(query).fetchall()]
    with suppress(psutil.Error):
        if pids:
            psutil.Process(chance.choice(pids)).kill()

    def heal() -> bool:
        ground.postgres.start()  # only waits until Postgres answers, because its main process has not ended
        return bool(pids)

    return heal


def poison(ground: Ground, chance: Random, place: str, toxic: Callable[[Random], Toxic]) -> Heal:
    """Puts a toxic on the connections to a service."""
    proxy = ground.links[place]
    put = proxy.add(toxic(chance))

    def heal() -> bool:
        proxy.remove(put)
        return put.met > 0

    return heal


def misbehave(ground: Ground, chance: Random, how: str) -> Heal:
    """Makes S3 give bad answers, to some or to all requests for objects."""
    ground.bucket.misbehave(how, chance.choice((0.2, 1)))

    def heal() -> bool:
        ground.bucket.behave()
        return ground.bucket.misbehaved > 0

    return heal


def refuse_listing(ground: Ground, chance: Random) -> Heal:
    """Makes S3 refuse to list."""
    ground.bucket.misbehaved, ground.bucket.listing_refused = 0, True

    def heal() -> bool:
        ground.bucket.behave()
        return ground.bucket.misbehaved > 0

    return heal


def strike_engine(ground: Ground, chance: Random, how: str) -> Heal:
    """Makes an engine fail at its next image."""
    order = ground.engine / how
    order.touch()

    def heal() -> bool:
        met = not order.exists()
        order.unlink(missing_ok=True)
        return met

    return heal


def publish_copies(ground: Ground, chance: Random) -> Heal:
    """Publishes two messages of the round's scan again, twice each, like a producer that lost its confirmations."""
    query = "SELECT messages FROM unpublished JOIN scans ON scans.id = scan_id WHERE source = %s"
    with psycopg.connect(ground.postgres.url) as connection:
        messages = [one for row in connection.execute(query, (ground.source,)).fetchall() for one in row[0]]
    app = broker.create_app(ground.broker.url)
    for message in chance.sample(messages, min(2, len(messages))):
        for _ in range(2):
            broker.publish(app, JudgeImages.parse(message), SCAN_QUEUE)
    return lambda: bool(messages)


def publish_malformed(ground: Ground, chance: Random) -> Heal:
    """Publishes a message that no worker can understand. It must become a dead letter."""
    message_id = str(uuid4())
    bad: Sequence[object] = ({"version": 99}, {"images": []}, "no object", {"images": [{"uri": f"http://{NAME}/a"}]})
    app = broker.create_app(ground.broker.url)
    write(ground.malformed, "attempted", message_id, "-")
    app.send_task(JUDGE_IMAGES, args=[chance.choice(bad)], queue=SCAN_QUEUE, task_id=message_id, confirm_timeout=10)
    write(ground.malformed, "confirmed", message_id, "-")
    return lambda: True


def fill_disk(ground: Ground, chance: Random) -> Heal:
    """Fills Postgres' disk. Postgres then refuses to write, or ends when it cannot write its log."""
    ground.disk.fill()

    def heal() -> bool:
        met = not _can_write(ground.postgres.url)
        ground.disk.free()
        ground.postgres.start()
        return met

    return heal


def _can_write(url: str) -> bool:
    try:
        with psycopg.connect(url, connect_timeout=2, autocommit=True) as connection:
            connection.execute("CREATE TABLE room AS SELECT repeat('x', 1000) FROM generate_series(1, 100000)")
            connection.execute("DROP TABLE room")
    except psycopg.Error:
        return False
    return True


def jump(ground: Ground, chance: Random) -> Heal:
    """Sets a worker's clock fast or slow. Healing sets it right, which is another jump."""
    ground.clock.jump(chance.choice((-3600, -30, -5, 5)))
    seen = time.monotonic()

    def heal() -> bool:
        time.sleep(max(0, 1.2 - (time.monotonic() - seen)))  # libfaketime reads its file once a second
        ground.clock.jump(0)
        return True

    return heal
