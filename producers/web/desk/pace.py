"""A person's own pace: shown to nobody else."""

from dataclasses import dataclass

from producers.web.access.people import Person
from worker.database import Database


@dataclass(frozen=True)
class Pace:
    """Decisions today and this week (UTC, from Monday), and the median of seconds between two of a sitting."""

    today: int
    this_week: int
    median_s: float | None


def pace(database: Database, person: Person) -> Pace:
    """Counts what is not withdrawn. Pauses of more than ten minutes end a sitting."""
    raise NotImplementedError
