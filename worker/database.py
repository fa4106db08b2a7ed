"""Postgres: what is known of an image, and saving a message's findings in one transaction."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, and_, create_engine, delete, false, func, literal, not_, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlmodel import Session, col

from worker.errors import ConfigurationError, DatabaseUnavailableError, InvalidMessageError
from worker.messages import Explain, ImageRef, JudgeImages, Policy
from worker.tables import Detector, Finding, Outcome, Scan, ScanStatus, StoredObject, StoredVerdict, Suspect

_PARTITION_LOCK = 0x46414B45
"""Advisory lock (ASCII "FAKE") under which partitions are made, so that two workers do not make one twice."""

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
    """The id of the detector with this fingerprint; stored when it is new."""
    values = detector.model_dump(exclude={"id", "created_at"})
    with transaction(engine) as session:
        session.execute(insert(Detector).values(**values).on_conflict_do_nothing())
        query = select(col(Detector.id)).where(col(Detector.fingerprint) == detector.fingerprint)
        return int(session.execute(query).scalar_one())


def live_partition(moment: datetime) -> str:
    """The partition of a submission: one a month, `live_2026_11`."""
    return f"live_{moment.astimezone(UTC):%Y_%m}"


def ensure_partition(session: Session, partition: str) -> None:
    """Makes the partition of `findings` when it is not there. Attached after creation: that locks readers out less."""
    if session.execute(text("SELECT to_regclass(:name)"), {"name": f"findings_{partition}"}).scalar() is not None:
        return
    session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _PARTITION_LOCK})
    if session.execute(text("SELECT to_regclass(:name)"), {"name": f"findings_{partition}"}).scalar() is not None:
        return
    name = f'"findings_{partition}"'
    session.execute(text(f"CREATE TABLE {name} (LIKE findings INCLUDING DEFAULTS INCLUDING CONSTRAINTS)"))
    session.execute(text(f"ALTER TABLE {name} ADD CHECK (partition = '{partition}')"))
    session.execute(text(f"ALTER TABLE findings ATTACH PARTITION {name} FOR VALUES IN ('{partition}')"))


def open_scan(session: Session, job: JudgeImages, message_id: UUID, *, fake_from: float, real_to: float) -> Scan:
    """The scan that a message belongs to. A message without one is a submission, named by its message id.

    Thresholds that the scan leaves to the detector are filled in with these, once for the whole scan.
    Raises InvalidMessageError when the message names a scan that does not exist.
    """
    scan = session.get(Scan, job.scan_id or message_id)
    if scan is None and job.scan_id is not None:
        raise InvalidMessageError(f"there is no scan {job.scan_id}")
    scan = scan or _open_submission(session, job, message_id)
    policy = Policy.model_validate(scan.policy)
    if policy.fake_from is None or policy.real_to is None:
        filled = policy.filled(fake_from=fake_from, real_to=real_to).stored()
        mine = (col(Scan.id) == scan.id, col(Scan.policy) == scan.policy)
        session.execute(update(Scan).where(*mine).values(policy=filled))
        session.refresh(scan)
    return scan


def _open_submission(session: Session, job: JudgeImages, message_id: UUID) -> Scan:
    partition = live_partition(datetime.now(UTC))
    ensure_partition(session, partition)
    values = {
        "id": message_id,
        "kind": "live",
        "name": "submission",
        "source": "message",
        "policy": Policy(explain=job.explain or Explain.FLAGGED).stored(),
        "partition": partition,
        "status": ScanStatus.RUNNING,
        "listed": len(job.images),
    }
    session.execute(insert(Scan).values(**values).on_conflict_do_nothing())
    return session.get_one(Scan, message_id)


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


def known_verdicts(
    session: Session, contents: Collection[str], detector_id: int, policy: Policy
) -> dict[str, StoredVerdict]:
    """By SHA-256, the newest verdict of this detector on each content that explains as much as is wanted.

    An answer that a limit cut off counts where the policy's own limit would have cut it off as well. One that stopped
    without reasons, having said real, does not where the policy's threshold flags it.
    """
    silent = and_(col(StoredVerdict.answer) == "real", col(StoredVerdict.explanation).is_(None))
    flagged = col(StoredVerdict.score) >= policy.fake_from if policy.fake_from is not None else false()
    explained = or_(not_(and_(silent, flagged)), literal(policy.explain is not Explain.FLAGGED))
    cut_by_this_limit = col(StoredVerdict.completion_tokens) >= policy.max_tokens if policy.max_tokens else false()
    query = (
        select(StoredVerdict)
        .where(
            col(StoredVerdict.sha256).in_(contents),
            col(StoredVerdict.detector_id) == detector_id,
            col(StoredVerdict.explain).in_(_EXPLAINS_AS_MUCH[policy.explain]),
            or_(not_(col(StoredVerdict.cut_off)), cut_by_this_limit),
            explained,
        )
        .distinct(col(StoredVerdict.sha256))
        .order_by(col(StoredVerdict.sha256), col(StoredVerdict.id).desc())
    )
    return {verdict.sha256: verdict for verdict in session.execute(query).scalars()}


def add_verdict(session: Session, verdict: StoredVerdict) -> int:
    """Appends a verdict; its id."""
    values = verdict.model_dump(exclude={"id", "created_at"})
    return int(session.execute(insert(StoredVerdict).values(**values).returning(col(StoredVerdict.id))).scalar_one())


def save_findings(session: Session, scan: Scan, findings: Sequence[Finding], *, again: bool) -> None:
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
        raised = {name: getattr(Scan, name) + count for name, count in counters.items()}
        session.execute(update(Scan).where(col(Scan.id) == scan.id).values(**raised))
        finish_if_full(session, scan.id)


def finish_if_full(session: Session, scan_id: UUID) -> None:
    """Marks a scan done when its listing is complete and every listed image has an outcome."""
    full = col(Scan.judged) + col(Scan.reused) + col(Scan.failed) >= col(Scan.listed)
    session.execute(
        update(Scan)
        .where(col(Scan.id) == scan_id, col(Scan.status) == ScanStatus.RUNNING, full)
        .values(status=ScanStatus.DONE, finished_at=func.now())
    )


def remember_object(session: Session, stored: StoredObject) -> None:
    """Upserts what was fetched at a uri."""
    values: dict[str, Any] = stored.model_dump(exclude={"fetched_at"})
    statement = insert(StoredObject).values(**values)
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
