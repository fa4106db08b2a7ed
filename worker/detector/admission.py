"""Lets images into the engine: live images immediately, images of scans if there is room (docs/decisions/0009)."""

import heapq
import threading
from collections.abc import Callable
from itertools import count

from worker.settings import Settings

_GPU_STEP_TOKENS, _CPU_STEP_TOKENS = 2048, 800
_IMAGE_TOKENS = 600  # FakeVLM's prompt has 587, an answer of "This is a real image." six more
_GPU_STAY_STEPS, _CPU_STAY_STEPS = 16, 8
_GPU_STEPS_BESIDE_LIVE, _CPU_STEPS_BESIDE_LIVE = 2, 1


def step_tokens(settings: Settings, *, on_cpu: bool) -> int:
    """Returns how many tokens vLLM takes into one step at most, of prompts and answers together.

    A live image's answer grows by one token per step, so steps are as short as possible without idle hardware. On a
    GPU, this is the size from which more rows no longer make matrix products more efficient. A CPU is busy with one
    image.
    """
    return settings.max_num_batched_tokens or (_CPU_STEP_TOKENS if on_cpu else _GPU_STEP_TOKENS)


class Admission:
    """Lets at most `scan_images` images of scans into the engine; `beside_live` while a live image is in it.

    vLLM prefills and decodes in the same steps, so each token of a live image's answer waits for a step that scans have
    filled. Images in the engine cannot be taken out when a live image comes. So only a few images of scans are in it,
    and while a live image is there, only as many more come in as scans need to keep moving.

    Images of the call that began first go first: its message is finished sooner, and its memory is freed sooner.
    """

    def __init__(self, scan_images: int, beside_live: int) -> None:
        self._most = {False: scan_images, True: beside_live}
        self._scan = self._live = 0
        self._calls = count()
        self._lock = threading.Lock()
        self._waiting: list[tuple[int, threading.Event]] = []

    def begin(self) -> int:
        """Returns the place of a call in the queue. Images of earlier calls are let in earlier."""
        return next(self._calls)

    def enter(self, call: int, *, live: bool, check: Callable[[], None]) -> None:
        """Waits until the image may go into the engine. `leave` must follow.

        Runs `check` once per second while it waits, and raises the errors of `check`. Then the image was not let in.
        """
        if live:
            with self._lock:
                self._live += 1
            return
        turn = threading.Event()
        with self._lock:
            heapq.heappush(self._waiting, (call, turn))  # a call has one image here at a time, so no two compare equal
            self._let_in()
        try:
            while not turn.wait(1):
                check()
        except BaseException:
            self._give_up(call, turn)
            raise

    def leave(self, *, live: bool) -> None:
        """Must be called when the image is no longer in the engine."""
        with self._lock:
            if live:
                self._live -= 1
            else:
                self._scan -= 1
            self._let_in()

    def _give_up(self, call: int, turn: threading.Event) -> None:
        with self._lock:
            if not turn.is_set():
                self._waiting.remove((call, turn))
                heapq.heapify(self._waiting)
                return
        self.leave(live=False)  # the image was let in at the same moment

    def _let_in(self) -> None:
        while self._waiting and self._scan < self._most[self._live > 0]:
            self._scan += 1
            heapq.heappop(self._waiting)[1].set()


def admission(settings: Settings, *, on_cpu: bool) -> Admission:
    """Makes the Admission, from the settings or with defaults for this hardware."""
    images_a_step = max(1, step_tokens(settings, on_cpu=on_cpu) // _IMAGE_TOKENS)
    stay, beside = (_CPU_STAY_STEPS, _CPU_STEPS_BESIDE_LIVE) if on_cpu else (_GPU_STAY_STEPS, _GPU_STEPS_BESIDE_LIVE)
    scan_images = settings.scan_images_in_engine or stay * images_a_step
    beside_live = settings.scan_images_beside_live or beside * images_a_step
    return Admission(scan_images, beside_live=min(beside_live, scan_images))
