"""Messages of a killed worker come back on Redis after seconds, not after the hour of the worker's own setting."""

from typing import Any

from celery import signals


def come_back_after(seconds: int) -> None:
    """Sets how long Redis waits. Call it before Celery starts. `seconds`: more than a message is in hand."""
    options = {
        "visibility_timeout": seconds,
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
        # A worker that is killed while it puts messages back keeps others from that for this time; 300 s by default.
        "unacked_mutex_expire": 5,
    }

    def configure(conf: Any, **_: Any) -> None:
        if str(conf.broker_url).startswith("redis"):
            conf.broker_transport_options = {**conf.broker_transport_options, **options}

    signals.celeryd_init.connect(configure, weak=False)
