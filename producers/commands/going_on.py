"""What `scan`, `resume` and `repair` have in common: they publish what is left of a scan."""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

import typer

from producers.commands.options import attendance_of, broker_app, print_json
from producers.garbage import collect_seldom
from worker.errors import FakesweepError, ScanStateError
from worker.messages import LIVE_QUEUE, SCAN_QUEUE

if TYPE_CHECKING:
    from producers.bulk import BulkPublisher
    from worker.database import Database
    from worker.settings import Settings

EXIT_PAUSED = 3


def go_on(
    settings: "Settings", publisher: "BulkPublisher", database: "Database", scan_id: UUID, *, watch: bool, as_json: bool
) -> None:
    """Publishes what is left of the scan, prints its id, and waits if that is wanted."""
    from producers import publishing
    from producers.reporting import progress, results, standing
    from worker.tables import ScanStatus

    collect_seldom()
    attendance = attendance_of(broker_app(settings), _queue_of(results.progress(database, scan_id)))

    def waiting() -> None:
        attendance.look()
        progress.show_waiting(advance, results.progress(database, scan_id))

    progress.say(f"scan {scan_id}")  # at once: a listing may take days
    try:
        with progress.shown("listing", total=None) as advance:
            publishing.publish_scan(
                publisher, database, scan_id, warn=progress.Warnings(),
                listed=lambda count: advance(count, None), waiting=waiting,
            )  # fmt: skip
    except (FakesweepError, KeyboardInterrupt):
        progress.say(f"scan {scan_id} has stopped; `fakesweep resume {scan_id}` continues it")
        raise
    watched = partial(progress.watch, look=attendance.look) if watch else results.progress
    counts = watched(database, scan_id)
    if as_json:
        print_json(counts)
    else:
        typer.echo(str(scan_id))
    if counts["status"] == ScanStatus.PAUSED:
        standing.say_paused(counts)
        raise typer.Exit(EXIT_PAUSED)
    if counts["status"] == ScanStatus.CANCELLED:
        raise ScanStateError(f"scan {scan_id} is cancelled: {counts['note']}. Start another one, with another token")


def _queue_of(counts: "Mapping[str, Any]") -> str:
    return LIVE_QUEUE if counts["kind"] == "live" else SCAN_QUEUE
