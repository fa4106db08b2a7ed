"""Declares every metric of our own once: its name, its labels, their values and its meaning.

docs/metrics.md tells operators how to use each metric; a test compares the two. The metrics of Python's process and of
vLLM are not declared here: worker/endpoint.py serves them beside ours.
"""

from dataclasses import dataclass
from enum import StrEnum
from itertools import product

from worker.errors import Reason
from worker.messages import LIVE_QUEUE, SCAN_QUEUE
from worker.tables import MessageState, Outcome, Stage, Verdict


class Kind(StrEnum):
    """The type of a metric in Prometheus."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True)
class Metric:
    """Declares a metric. `name` is its name in Prometheus: it contains the unit, and a counter ends with `_total`.

    `series` are all combinations of the labels' values. Each of them is served from the start, with 0: otherwise
    `rate` and `increase` would miss the first event of a new series. None means that the values are known only when a
    process starts; there must be few of them. `buckets` are the upper limits of a histogram's buckets, in seconds.
    """

    kind: Kind
    name: str
    meaning: str
    labels: tuple[str, ...] = ()
    series: tuple[tuple[str, ...], ...] | None = ((),)
    buckets: tuple[float, ...] = ()


_QUEUES = (LIVE_QUEUE, SCAN_QUEUE)
_ENDS = (
    *((outcome, verdict, "") for outcome in (Outcome.JUDGED, Outcome.REUSED) for verdict in Verdict),
    *((Outcome.FAILED, "", reason) for reason in Reason),
)


def _seconds(name: str, meaning: str, *buckets: float) -> Metric:
    """Declares a histogram of times, by queue."""
    return Metric(Kind.HISTOGRAM, name, meaning, ("queue",), tuple((queue,) for queue in _QUEUES), buckets)


IMAGES = Metric(
    Kind.COUNTER, "fakesweep_images_total",
    "Images whose finding this worker saved, by outcome; with the verdict, or with the reason of a failure.",
    ("queue", "outcome", "verdict", "reason"), tuple((queue, *end) for queue in _QUEUES for end in _ENDS),
)  # fmt: skip

REUSED = Metric(
    Kind.COUNTER, "fakesweep_images_reused_total",
    "Images whose verdict was reused: unchanged since their last fetch, seen before with the same SHA-256, "
    "or the twin of an image in the same message.",
    ("queue", "found"), tuple(product(_QUEUES, ("unchanged", "seen", "twin"))),
)  # fmt: skip

STAGED = Metric(
    Kind.COUNTER, "fakesweep_images_staged_total",
    "Images that a cascade judged, by the stage that gave the verdict: first, judge or audit. 0 for other detectors.",
    ("queue", "stage"), tuple(product(_QUEUES, Stage)),
)  # fmt: skip

IN_FLIGHT = Metric(
    Kind.GAUGE, "fakesweep_images_in_flight", "Images of the messages that this worker works on now.",
    ("queue",), tuple((queue,) for queue in _QUEUES),
)  # fmt: skip

WAIT = _seconds(
    "fakesweep_message_wait_seconds",
    "Time from the publishing of a message (or from its ETA) to its start in a worker. One value per message.",
    # Seconds matter for live images, hours for scans when no worker runs.
    0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 21600,
)  # fmt: skip

FETCH = _seconds(
    "fakesweep_image_fetch_seconds",
    "Time to fetch the bytes of an image, or to fail at it. One value per image.",
    # S3 answers within 10 to 100 ms. FAKESWEEP_FETCH_TIMEOUT_S is 20 s, and a fetch is retried.
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 60,
)  # fmt: skip

PROVENANCE = _seconds(
    "fakesweep_image_origin_seconds",
    "Time to read what an image says about its origin, such as its C2PA manifest. One value per image.",
    # A file that says nothing takes 0.1 ms, a photo with EXIF 1 ms, a signed file 10 ms. The limit is 1.5 s.
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5,
)  # fmt: skip

DECODE = _seconds(
    "fakesweep_image_decode_seconds",
    "Time to decode an image and bring it to the detector's size, without waiting for memory. One value per image.",
    # A thumbnail takes a millisecond, 12 megapixels about 100 ms, the allowed 100 megapixels seconds.
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5,
)  # fmt: skip

ENGINE = _seconds(
    "fakesweep_message_engine_seconds",
    "Time until the engine had answered for all images of a message, waiting in the engine included. "
    "One value per message that had images to judge.",
    # From one live image on an idle GPU to FAKESWEEP_ENGINE_STALL_S.
    0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300,
)  # fmt: skip

SAVE = _seconds(
    "fakesweep_message_save_seconds",
    "Time to save the findings of a message, until they were committed. One value per save: one per message, "
    "and one per image when images are taken alone.",
    # One statement takes 5 to 20 ms. Seconds mean that Postgres was away and the save was retried.
    0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 15, 60,
)  # fmt: skip

TOKENS = Metric(
    Kind.COUNTER, "fakesweep_tokens_total", "Tokens of the prompts that were judged, and of the answers to them.",
    ("queue", "kind"), tuple(product(_QUEUES, ("prompt", "completion"))),
)  # fmt: skip

RETRIED = Metric(
    Kind.COUNTER, "fakesweep_messages_retried_total",
    "Messages that will be handled again, by cause: published again because the storage or the database was away, "
    "or given back to the queue because the broker was away or the worker stopped.",
    ("queue", "cause"),
    tuple(product(
        _QUEUES, ("storage_unavailable", "database_unavailable", "broker_unavailable", "shutting_down")
    )),
)  # fmt: skip

DEAD_LETTERS = Metric(
    Kind.COUNTER, "fakesweep_dead_letters_total",
    "Messages that became dead letters, by cause: invalid, given_up (expired, or delivered too often), "
    "or a fault of the worker. The queue sqs is that of `fakesweep listen`.",
    ("queue", "cause"), tuple(product((*_QUEUES, "sqs"), ("invalid", "given_up", "fault"))),
)  # fmt: skip

WORKER_INFO = Metric(
    Kind.GAUGE, "fakesweep_worker_info",
    "Always 1. Its labels name the replica (none of a single process) and the detector.",
    ("replica", "detector"), None,
)  # fmt: skip

READY = Metric(
    Kind.GAUGE, "fakesweep_worker_ready", "1 while the worker takes messages; 0 while it starts or stops.",
)  # fmt: skip

LISTED = Metric(Kind.COUNTER, "fakesweep_producer_images_listed_total", "Images that were listed.")
PUBLISHED = Metric(Kind.COUNTER, "fakesweep_producer_images_published_total", "Images in the messages published.")
KNOWN = Metric(
    Kind.COUNTER, "fakesweep_producer_images_known_total",
    "Images that needed no message, because they are unchanged and have a verdict.",
)  # fmt: skip

BACKLOG = Metric(Kind.GAUGE, "fakesweep_review_backlog", "Contents that wait for a person's review.")
QUEUE_MESSAGES = Metric(
    Kind.GAUGE, "fakesweep_queue_messages", "Messages that wait in the broker's queue for a worker to take them.",
    ("queue",), None,
)  # fmt: skip
QUEUE_IMAGES = Metric(
    Kind.GAUGE, "fakesweep_queue_images",
    "Images without an outcome, of scans that are not paused and of submissions that a worker has seen.",
    ("queue",), None,
)  # fmt: skip
QUEUE_OLDEST = Metric(
    Kind.GAUGE, "fakesweep_queue_oldest_seconds",
    "Time since the oldest scan or submission that has images without an outcome started.",
    ("queue",), None,
)  # fmt: skip
QUEUE_STILL = Metric(
    Kind.GAUGE, "fakesweep_queue_still_seconds",
    "Time since any scan or submission that has images without an outcome made progress.",
    ("queue",), None,
)  # fmt: skip
OVERDUE = Metric(
    Kind.GAUGE, "fakesweep_schedule_overdue_seconds", "How long a nightly scan has been due without starting.",
    ("schedule",), None,
)  # fmt: skip
DRIFTED = Metric(
    Kind.GAUGE, "fakesweep_drift_alarms",
    "Detectors and buckets with a drift alarm on the last full day (docs/drift.md).",
)  # fmt: skip

CASCADE_ALARMS = Metric(
    Kind.GAUGE, "fakesweep_cascade_alarms",
    "Cascades whose audited sample showed on the last full day that they clear more fakes than promised.",
)  # fmt: skip

ATTEMPTS = Metric(
    Kind.COUNTER, "fakesweep_webhooks_attempts_total",
    "Attempts to send a webhook, by what became of the message: delivered, waiting for its next attempt, or dead.",
    ("state",), tuple((state,) for state in MessageState),
)  # fmt: skip
OUTBOX_MESSAGES = Metric(
    Kind.GAUGE, "fakesweep_webhooks_messages", "Webhooks in the outbox that wait to be sent, or are dead.",
    ("state",), None,
)  # fmt: skip
OUTBOX_OLDEST = Metric(
    Kind.GAUGE, "fakesweep_webhooks_oldest_seconds", "Age of the oldest webhook that waits to be sent.",
)  # fmt: skip

WORKER = (
    IMAGES,
    REUSED,
    STAGED,
    IN_FLIGHT,
    WAIT,
    FETCH,
    PROVENANCE,
    DECODE,
    ENGINE,
    SAVE,
    TOKENS,
    RETRIED,
    DEAD_LETTERS,
    WORKER_INFO,
    READY,
)
PRODUCER = (LISTED, PUBLISHED, KNOWN, DEAD_LETTERS)
WEBHOOKS = (ATTEMPTS,)
ASKED = (
    BACKLOG,
    QUEUE_MESSAGES,
    QUEUE_IMAGES,
    QUEUE_OLDEST,
    QUEUE_STILL,
    OVERDUE,
    DRIFTED,
    CASCADE_ALARMS,
    OUTBOX_MESSAGES,
    OUTBOX_OLDEST,
)
"""producers.asked serves these, and omits a metric while its value is unknown."""
DECLARED = (*WORKER, *(one for one in PRODUCER if one not in WORKER), *WEBHOOKS, *ASKED)
