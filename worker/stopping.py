"""Celery's worker, with the signals that stop it."""

import signal

from celery.apps.worker import Worker, install_worker_term_handler

from worker.replicas import hang_up


class StoppedByHangUp(Worker):  # type: ignore[misc]  # Celery is not typed
    """Celery's worker. SIGHUP stops it: Celery would start it anew, and a replica would not know its parent then."""

    def install_platform_tweaks(self, worker: Worker) -> None:
        hangs_up = hang_up()
        super().install_platform_tweaks(worker)
        if hangs_up:
            install_worker_term_handler(worker, sig="SIGHUP", verbose=False)  # the terminal may be gone
        else:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
