"""Makes Redis redeliver the messages of a killed worker after seconds. A worker's own setting is an hour."""

from typing import Any

from celery import signals


def come_back_after(seconds: int) -> None:
    """Sets after how long Redis redelivers.

    Call it before Celery starts. `seconds`: longer than a worker has a message.
    """
    options = {
        "visibility_timeout": seconds,
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
        # A worker that is killed while it puts messages back blocks the others for this time. The default is 300 s.
        "unacked_mutex_expire": 5,
    }

    def configure(conf: Any, **_: Any) -> None:
        if str(conf.broker_url).startswith("redis"):
            conf.broker_transport_options = {**conf.broker_transport_options, **options}

    signals.celeryd_init.connect(configure, weak=False)
