"""Stores stacks, which make one score of several detectors' verdicts. The view `combined_scores` computes it."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import Session, col

from worker.database import Database, transaction
from worker.errors import ConfigurationError
from worker.stacking import Stack, parse_stack
from worker.tables import Detector, StackChoice, StoredStack

SHORTEST_PRINT = 8
"""Characters of a fingerprint that must be given at least."""

_KNOWN = text("""
SELECT s.id, s.name, s.fingerprint, choice.in_use, choice.created_at AS since,
       ARRAY(SELECT d.name FROM unnest(s.detector_ids) WITH ORDINALITY part (id, n) JOIN detectors d USING (id)
             ORDER BY n) AS detectors
FROM stacks s
CROSS JOIN LATERAL (SELECT c.* FROM stack_choices c WHERE c.stack_id = s.id ORDER BY c.id DESC LIMIT 1) choice
ORDER BY choice.id DESC
""")


@dataclass(frozen=True)
class KnownStack:
    """A stack in the database. It was stored, or withdrawn if it is not in use, at `since`."""

    id: int
    name: str
    fingerprint: str
    in_use: bool
    since: datetime
    detectors: list[str]


def read_stack(file: Path) -> Stack:
    """Reads a stack.toml. Raises ConfigurationError if it cannot be read, or is none."""
    try:
        return parse_stack(file.read_text(encoding="utf-8"), where=str(file))
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read ({error.strerror}); give a file of fakesweep stack") from None


def store_stack(database: Database, stack: Stack) -> bool:
    """Stores the stack and puts it in use, before all others. Returns False if it is the last one that was stored.

    A stack that is there already is put in use again. Raises ConfigurationError if a detector of it is not in
    `detectors`: no worker has started with it yet.
    """
    with transaction(database) as session:
        _alone(session)
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
        session.execute(insert(StoredStack).values(**values).on_conflict_do_nothing(index_elements=["fingerprint"]))
        there = col(StoredStack.fingerprint) == stack.fingerprint
        stack_id = session.execute(select(col(StoredStack.id)).where(there)).scalar_one()
        last = session.execute(select(StackChoice).order_by(col(StackChoice.id).desc()).limit(1)).scalar()
        if last and last.in_use and last.stack_id == stack_id:
            return False
        session.add(StackChoice(stack_id=stack_id, in_use=True))
        return True


def withdraw_stack(database: Database, wanted: str) -> KnownStack:
    """Takes a stack out of use, by its name, its fingerprint, or the start of the fingerprint. Returns the stack.

    Raises ConfigurationError if it is not one stack in use.
    """
    with transaction(database) as session:
        _alone(session)
        in_use = [one for one in _known(session) if one.in_use]
        found = [one for one in in_use if wanted in (one.name, one.fingerprint)]
        if not found and len(wanted) >= SHORTEST_PRINT:
            found = [one for one in in_use if one.fingerprint.startswith(wanted)]
        if not found:
            raise ConfigurationError(f"no stack {wanted} is in use; fakesweep stack --list shows those that are")
        if len(found) > 1:
            prints = ", ".join(one.fingerprint[:12] for one in found)
            raise ConfigurationError(f"{len(found)} stacks {wanted} are in use; give one of the fingerprints: {prints}")
        session.add(StackChoice(stack_id=found[0].id, in_use=False))
        return found[0]


def known_stacks(database: Database) -> list[KnownStack]:
    """Returns all stacks that were ever stored, the one first that was stored or withdrawn last."""
    with transaction(database) as session:
        return _known(session)


def _alone(session: Session) -> None:
    """Makes others wait who choose a stack at the same time: the choice depends on the newest one."""
    session.execute(text("LOCK TABLE stack_choices IN SHARE ROW EXCLUSIVE MODE"))


def _known(session: Session) -> list[KnownStack]:
    return [KnownStack(**row) for row in session.execute(_KNOWN).mappings()]
