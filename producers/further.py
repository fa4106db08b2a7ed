"""What a scan must know before it asks for further detectors, or for the judge of a cascade."""

from datetime import timedelta

from sqlmodel import Session

from worker.at_work import connected_before
from worker.database.detectors import further_detectors, started_last
from worker.errors import NoSuchDetectorError, OlderAtWorkError
from worker.messages import Policy, Thresholds
from worker.tables import Detector

LONG_AGO = timedelta(days=30)
"""A further detector counts as gone if workers still started this long after the last one that had it. A worker that
simply runs for long does not count: it started with all its detectors at once.
"""

_KNOWS_ALSO, _KNOWS_JUDGE = "0023", "0018"
"""The first releases whose workers know these fields of a policy and of a message, by their newest revisions."""


def ready_policy(session: Session, policy: Policy) -> Policy:
    """Returns the policy as a new scan stores it: with the thresholds that its further detectors have now. So they stay
    the same in the whole scan, whoever looks at an image.

    Raises NoSuchDetectorError if a further detector is not there, and OlderAtWorkError while a worker of a release is
    connected that would reject the messages of the scan.
    """
    _refuse_older(session, policy)
    if not policy.also:
        return policy
    known, main = further_detectors(session), started_last(session)
    pinned = {name: _thresholds(name, known, main) for name in policy.also}
    return policy.model_copy(update={"also_thresholds": pinned})


def _refuse_older(session: Session, policy: Policy) -> None:
    first = _KNOWS_ALSO if policy.also else _KNOWS_JUDGE if policy.judge else None
    if first and (older := connected_before(session.connection(), first)):
        raise OlderAtWorkError(
            f"older releases are connected, and their workers reject what this scan asks for: {older}; "
            "stop their processes (docs/upgrading.md), or ask for no judge and no second opinions"
        )


def further_names(session: Session) -> list[str]:
    """Returns the names of the further detectors that a scan can ask for now, sorted."""
    known, main = further_detectors(session), started_last(session)
    return sorted(name for name in known if _refusal(name, known, main) is None)


def _thresholds(name: str, known: dict[str, Detector], main: Detector | None) -> Thresholds:
    """Returns the thresholds of a further detector. Without the checks, its opinions would be missing in the whole
    scan.
    """
    if refusal := _refusal(name, known, main):
        raise NoSuchDetectorError(refusal)
    return Thresholds.model_validate((known[name].description or {})["thresholds"])


def _refusal(name: str, known: dict[str, Detector], main: Detector | None) -> str | None:
    """Says why nobody can ask for the second opinion of this detector. None: a scan can ask for it."""
    if main is not None and main.name == name:
        return f"{name!r} is the detector that decides: name another one for second opinions (docs/second-opinions.md)"
    found = known.get(name)
    if found is None or found.also_at is None or found.description is None:
        there = ", ".join(sorted(known)) or "none"
        return (
            f"no worker has started with {name!r} for second opinions; those that have started: {there}. "
            "Name it in FAKESWEEP_ALSO of the workers, and start them (docs/second-opinions.md)"
        )
    if main is not None and main.started_at is not None and main.started_at - found.also_at > LONG_AGO:
        return (
            f"no worker has started with {name!r} for second opinions since {found.also_at:%Y-%m-%d}, but without it "
            f"until {main.started_at:%Y-%m-%d}. Name it in FAKESWEEP_ALSO of the workers, and start them "
            "(docs/second-opinions.md)"
        )
    return None
