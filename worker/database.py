"""Postgres: what is known of an image, and saving a message's findings in one transaction."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Engine,
    and_,
    case,
    create_engine,
    delete,
    false,
    func,
    literal,
    not_,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import distinct_on, insert
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlmodel import Session, col

from worker.errors import ConfigurationError, DatabaseUnavailableError
from worker.lifecycle import raise_counters
from worker.messages import Explain, ImageRef, Policy
from worker.tables import Detector, Finding, Outcome, Scan, StoredObject, StoredVerdict, Suspect

_EXPLAINS_AS_MUCH = {
    Explain.ALL: (Explain.ALL,),
    Explain.FLAGGED: (Explain.ALL, Explain.FLAGGED),
    Explain.NONE: tuple(Explain),
}
"""Verdicts asked for in these modes may be reused in a scan of that mode: none explains less than is wanted."""


def connect(url: str, *, pool_size: int = 8) -> Engine:
    """A SQLAlchemy engine for a Postgres URL of any spelling; nothing is connected yet.

    Raises ConfigurationError when the URL is missing or no Postgres URL.
    """
    if not url:
        raise ConfigurationError("DATABASE_URL is not set: give postgresql://user:password@host/database")
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise ConfigurationError("DATABASE_URL is not a URL: give postgresql://user:password@host/database") from None
    if parsed.drivername.partition("+")[0] not in {"postgresql", "postgres"}:
        raise ConfigurationError(f"DATABASE_URL names {parsed.drivername}; only postgresql:// is supported")
    return create_engine(
        parsed.set(drivername="postgresql+psycopg"),
        pool_size=pool_size,
        pool_pre_ping=True,
        pool_timeout=30,
        connect_args={
            "connect_timeout": 5,
            "application_name": "fakesweep",
            # A server that vanishes without a word is noticed within a minute or so, not after the system's two hours.
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            "tcp_user_timeout": 60_000,
        },
    )


@contextmanager
def transaction(engine: Engine) -> Iterator[Session]:
    """A session that commits at the end. A lost or unreachable database is a DatabaseUnavailableError."""
    try:
        with Session(engine, expire_on_commit=False) as session, session.begin():
            yield session
    # InternalError and InterfaceError too: a demoted primary (read-only), a session that was closed.
    except (OperationalError, InternalError, InterfaceError, PoolTimeoutError) as error:
        raise DatabaseUnavailableError(_first_line(error)) from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise DatabaseUnavailableError(_first_line(error)) from error
        raise


def _first_line(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error).strip().partition("\n")[0]


def register_detector(engine: Engine, detector: Detector) -> int:
    """The id of the detector with this fingerprint; stored when it is new, and noted as the one that started last."""
    values = detector.model_dump(exclude={"id", "created_at", "started_at"}) | {"started_at": func.now()}
    statement = insert(Detector).values(**values)
    started = statement.on_conflict_do_update(
        index_elements=["fingerprint"], set_={"started_at": func.now()}
    ).returning(col(Detector.id))
    with transaction(engine) as session:
        return int(session.execute(started).scalar_one())


def decided_uris(session: Session, scan: Scan, refs: Sequence[ImageRef], *, again: bool) -> set[str]:
    """The uris that already have their finding in this scan: a redelivered message does nothing twice.

    With `again`, failures do not count.
    """
    query = select(col(Finding.uri)).where(
        col(Finding.partition) == scan.partition,
        col(Finding.scan_id) == scan.id,
        col(Finding.uri).in_([ref.uri for ref in refs]),
    )
    if again:
        query = query.where(col(Finding.outcome) != Outcome.FAILED)
    return set(session.execute(query).scalars())


def stored_objects(session: Session, refs: Sequence[ImageRef]) -> dict[str, StoredObject]:
    """By uri, what was fetched before of the refs whose ETag is unchanged."""
    wanted = {ref.uri: ref.etag for ref in refs if ref.etag}
    rows = session.execute(select(StoredObject).where(col(StoredObject.uri).in_(wanted))).scalars()
    return {row.uri: row for row in rows if row.etag == wanted[row.uri]}


def reusable(detector_id: int, policy: Policy, since: datetime | None = None) -> tuple[ColumnElement[bool], ...]:
    """What a stored verdict must be so that it can stand for a new one: of this detector, and explaining as much.

    An answer that a limit cut off counts where the policy's own limit would have cut it off as well. One that stopped
    without reasons, having said real, does not where the policy's threshold flags it. `since`: none from before then.
    """
    silent = and_(col(StoredVerdict.answer) == "real", col(StoredVerdict.explanation).is_(None))
    flagged = col(StoredVerdict.score) >= policy.fake_from if policy.fake_from is not None else false()
    cut_by_this_limit = col(StoredVerdict.completion_tokens) >= policy.max_tokens if policy.max_tokens else false()
    conditions = (
        col(StoredVerdict.detector_id) == detector_id,
        col(StoredVerdict.explain).in_(_EXPLAINS_AS_MUCH[policy.explain]),
        or_(not_(col(StoredVerdict.cut_off)), cut_by_this_limit),
        or_(not_(and_(silent, flagged)), literal(policy.explain is not Explain.FLAGGED)),
    )
    return conditions if since is None else (*conditions, col(StoredVerdict.created_at) >= since)


def known_verdicts(
    session: Session, contents: Collection[str], detector_id: int, policy: Policy, since: datetime | None = None
) -> dict[str, StoredVerdict]:
    """By SHA-256, the newest verdict on each content that is `reusable`."""
    query = (
        select(StoredVerdict)
        .where(col(StoredVerdict.sha256).in_(contents), *reusable(detector_id, policy, since))
        .ext(distinct_on(col(StoredVerdict.sha256)))
        .order_by(col(StoredVerdict.sha256), col(StoredVerdict.id).desc())
    )
    return {verdict.sha256: verdict for verdict in session.execute(query).scalars()}


def add_verdict(session: Session, verdict: StoredVerdict) -> int:
    """Appends a verdict; its id."""
    values = verdict.model_dump(exclude={"id", "created_at"})
    return int(session.execute(insert(StoredVerdict).values(**values).returning(col(StoredVerdict.id))).scalar_one())


def save_findings(session: Session, scan: Scan, findings: Sequence[Finding], *, again: bool, detector_id: int) -> None:
    """Inserts the findings and raises the scan's counters by those that were really new, and ends the scan when full.

    With `again`, a new finding takes the place of a failure.
    The counters come last: the scan's row is locked for the shortest time.
    """
    if not findings:
        return
    rows = [finding.model_dump(exclude={"decided_at"}) for finding in findings]
    statement = (
        insert(Finding).values(rows).on_conflict_do_nothing().returning(col(Finding.outcome), col(Finding.verdict))
    )
    counters: dict[str, int] = {}
    if again:
        own = (col(Finding.partition) == scan.partition, col(Finding.scan_id) == scan.id)
        uris = [finding.uri for finding in findings]
        failed = delete(Finding).where(*own, col(Finding.uri).in_(uris), col(Finding.outcome) == Outcome.FAILED)
        counters[Outcome.FAILED] = -len(session.execute(failed.returning(col(Finding.uri))).all())
    for outcome, verdict in session.execute(statement):
        counters[outcome] = counters.get(outcome, 0) + 1
        if verdict is not None:
            counters[verdict] = counters.get(verdict, 0) + 1
    if counters:
        raise_counters(session, scan.id, counters, detector_id)


def remember_object(session: Session, stored: StoredObject) -> None:
    """Upserts what was fetched at a uri. A listed ETag is not forgotten when the same content comes without one."""
    values: dict[str, Any] = stored.model_dump(exclude={"fetched_at"})
    statement = insert(StoredObject).values(**values)
    if stored.etag is None:
        same = col(StoredObject.sha256) == stored.sha256
        values["etag"] = case((same, StoredObject.etag), else_=null())
    session.execute(statement.on_conflict_do_update(index_elements=["uri"], set_={**values, "fetched_at": func.now()}))


def count_try(engine: Engine, scan_id: UUID, uri: str) -> int:
    """Notes, before it happens, that an image of a redelivered message is tried alone; returns how often by now."""
    statement = insert(Suspect).values(scan_id=scan_id, uri=uri, tries=1)
    raised = statement.on_conflict_do_update(
        index_elements=["scan_id", "uri"], set_={"tries": col(Suspect.tries) + 1}
    ).returning(col(Suspect.tries))
    with transaction(engine) as session:
        return int(session.execute(raised).scalar_one())


def strike_try(engine: Engine, scan_id: UUID, uri: str) -> None:
    """Strikes out a try that the worker survived."""
    with transaction(engine) as session:
        mine = (col(Suspect.scan_id) == scan_id, col(Suspect.uri) == uri)
        session.execute(update(Suspect).where(*mine).values(tries=col(Suspect.tries) - 1))
