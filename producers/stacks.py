"""Stores stacks, which make one score of several detectors' verdicts. The view `combined_scores` computes it."""

from pathlib import Path

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col

from worker.database import Database, transaction
from worker.errors import ConfigurationError
from worker.stacking import Stack, parse_stack
from worker.tables import Detector, StoredStack


def read_stack(file: Path) -> Stack:
    """Reads a stack.toml. Raises ConfigurationError if it cannot be read, or is none."""
    try:
        return parse_stack(file.read_text(encoding="utf-8"), where=str(file))
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read ({error.strerror}); give a file of fakesweep stack") from None


def store_stack(database: Database, stack: Stack) -> bool:
    """Stores the stack. Returns False if it is there already.

    Raises ConfigurationError if a detector of it is not in `detectors`: no worker has started with it yet.
    """
    with transaction(database) as session:
        asked = select(col(Detector.fingerprint), col(Detector.id))
        rows = session.execute(asked.where(col(Detector.fingerprint).in_(stack.fingerprints)))
        known = {row.fingerprint: row.id for row in rows}
        for one in stack.detectors:
            if one.fingerprint not in known:
                raise ConfigurationError(
                    f"no worker has started with {one.name} ({one.fingerprint[:12]}…) of this stack: start one with "
                    "that detector, or fit the stack to detectors that are in use"
                )
        values = {
            "fingerprint": stack.fingerprint,
            "name": stack.name,
            "detector_ids": [known[one] for one in stack.fingerprints],
            "weights": [one.weight for one in stack.detectors],
            **stack.model_dump(include={"offset", "fake_from", "real_to"}),
            "description": stack.model_dump(mode="json"),
        }
        new = insert(StoredStack).values(**values).on_conflict_do_nothing(index_elements=["fingerprint"])
        return session.execute(new.returning(col(StoredStack.id))).first() is not None
