"""Builds the statement that saves the rows of a message."""

from functools import cache
from typing import Any

from sqlalchemy import (
    CTE,
    JSON,
    BigInteger,
    Text,
    Uuid,
    bindparam,
    case,
    cast,
    column,
    func,
    literal_column,
    not_,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB, aggregate_order_by, insert
from sqlmodel import SQLModel, col

from worker.database.counters import increase_statement
from worker.tables import (
    ContentHash,
    ContentProvenance,
    Finding,
    Outcome,
    Scan,
    StoredObject,
    StoredVerdict,
    Verdict,
)


@cache
def save_statement() -> Any:
    """Builds the statement that saves a message's rows and increases the counters of its scan.

    Its parameters `verdicts`, `objects`, `content_hashes`, `provenance` and `findings` are JSON arrays of rows. If
    `verdict_id` is null, it becomes the id of the verdict that the statement adds for the same content. A second
    opinion without `verdict_id` gets one in the same way. `replaced` is how many failures of the scan were deleted to
    make room, and `given` is how many findings there are. The other parameters are `scan_id` and `detector_id`. The
    statement returns what counters.increase_statement returns, and the uris of the new findings, or NULL if all were
    new. It returns no row if none was new.
    """
    scan_id = bindparam("scan_id", type_=Uuid)
    added = _verdicts_insert().cte("added")
    main = bindparam("detector_id", type_=BigInteger)
    remembered = _objects_upsert(added, main, scan_id).cte("remembered")
    hashed = _hashes_upsert().cte("hashed")
    read = _provenance_insert().cte("read")
    found = _findings_insert(added, main, scan_id).cte("found")
    outcomes = {outcome.value: found.c.outcome == outcome.value for outcome in Outcome}
    verdicts = {verdict.value: found.c.verdict == verdict.value for verdict in Verdict}
    counts: dict[str, Any] = {name: func.count().filter(one) for name, one in (outcomes | verdicts).items()}
    counts[Outcome.FAILED.value] -= bindparam("replaced")
    columns = [count.label(name) for name, count in counts.items()]
    # These are counted so that they are written before the scan's row is locked, not after it.
    others = [select(func.count()).select_from(one).scalar_subquery() for one in (remembered, hashed, read)]
    objects = (others[0] + others[1] + others[2]).label("objects")
    some = case((func.count() < bindparam("given"), func.array_agg(found.c.uri))).label("uris")
    new = select(scan_id.label("scan_id"), *columns, func.count().label("findings"), objects, some).select_from(found)
    rows = new.subquery("new")
    increased = increase_statement(rows, main).returning(rows.c.uris)
    return increased.where(rows.c.findings > 0, rows.c.objects >= 0)


def _verdicts_insert() -> Any:
    given, names = _given(StoredVerdict, "verdicts"), _columns(StoredVerdict, without=("id", "created_at"))
    statement = insert(StoredVerdict).from_select(names, select(*(given.c[name] for name in names)))
    return statement.returning(col(StoredVerdict.id), col(StoredVerdict.sha256), col(StoredVerdict.detector_id))


def _objects_upsert(added: CTE, main: Any, scan_id: Any) -> Any:
    """Inserts or updates `objects`. A stored ETag is kept when the same content comes without one.

    If the findings of the scan were dropped, no rule is stored: then the next scan looks at the image again.
    """
    given, names = _given(StoredObject, "objects"), _columns(StoredObject, without=("fetched_at",))
    rows = _with_verdict_ids(given, names, added, main, rule=case((_is_there(scan_id), given.c.rule)))
    statement = insert(StoredObject).from_select(names, rows)
    new = statement.excluded
    kept = case((col(StoredObject.sha256) == new.sha256, col(StoredObject.etag)))
    values: dict[str, Any] = {name: new[name] for name in ("sha256", "size", "verdict_id", "verdict", "rule")}
    values |= {"etag": func.coalesce(new.etag, kept), "fetched_at": func.now()}
    return statement.on_conflict_do_update(index_elements=["uri"], set_=values).returning(col(StoredObject.uri))


def _hashes_upsert() -> Any:
    """Inserts new hashes. A stored hash never changes. A content that is in question once stays in question."""
    given, names = _given(ContentHash, "content_hashes"), _columns(ContentHash, without=())
    rows = select(*(given.c[name] for name in names)).order_by(given.c.sha256.collate("C"))
    statement = insert(ContentHash).from_select(names, rows)
    becomes = not_(col(ContentHash.in_question)) & statement.excluded.in_question
    upsert = statement.on_conflict_do_update(index_elements=["sha256"], set_={"in_question": True}, where=becomes)
    return upsert.returning(col(ContentHash.sha256))


def _provenance_insert() -> Any:
    """Inserts what contents say about their origin, unless this revision is stored already."""
    given, names = _given(ContentProvenance, "provenance"), _columns(ContentProvenance, without=("read_at",))
    rows = select(*(given.c[name] for name in names)).order_by(given.c.sha256.collate("C"))
    statement = insert(ContentProvenance).from_select(names, rows).on_conflict_do_nothing()
    return statement.returning(col(ContentProvenance.sha256))


def _findings_insert(added: CTE, main: Any, scan_id: Any) -> Any:
    """Inserts the findings that are new, unless the findings of the scan were dropped."""
    given, names = _given(Finding, "findings"), _columns(Finding, without=("decided_at",))
    opinions = _opinions(given, added)
    rows = _with_verdict_ids(given, names, added, main, opinions=opinions).where(_is_there(scan_id))
    statement = insert(Finding).from_select(names, rows).on_conflict_do_nothing()
    return statement.returning(col(Finding.uri), col(Finding.outcome), col(Finding.verdict))


def _is_there(scan_id: Any) -> Any:
    return select(col(Scan.id)).where(col(Scan.id) == scan_id, col(Scan.dropped_at).is_(None)).exists()


def _opinions(given: Any, added: CTE) -> Any:
    """Fills in the ids of the verdicts that the statement adds. An empty list stays one, and NULL stays NULL."""
    listed = func.jsonb_array_elements(given.c.opinions).table_valued(column("one", JSONB), with_ordinality="n")
    each = listed.render_derived("opinion")
    id_there = each.c.one.has_key("verdict_id")
    filled = case((id_there, each.c.one), else_=each.c.one.op("||")(func.jsonb_build_object("verdict_id", added.c.id)))
    same = (added.c.sha256 == given.c.sha256) & (added.c.detector_id == cast(each.c.one["detector_id"], BigInteger))
    all_of_them = select(func.jsonb_agg(aggregate_order_by(filled, each.c.n)))
    found = all_of_them.select_from(each.outerjoin(added, same)).correlate(given).scalar_subquery()
    return func.coalesce(found, given.c.opinions)


def _with_verdict_ids(given: Any, names: list[str], added: CTE, main: Any, **other: Any) -> Any:
    columns = {name: other.get(name, given.c[name]) for name in names}
    columns["verdict_id"] = func.coalesce(given.c.verdict_id, added.c.id)
    own = (added.c.sha256 == given.c.sha256) & (added.c.detector_id == main)
    rows = select(*columns.values()).select_from(given.outerjoin(added, own))
    # All statements use the same order, so that two messages with the same uris cannot deadlock. It is the order of
    # code points, and not the database's own, because earlier releases sort in Python.
    return rows.order_by(given.c.uri.collate("C"))


def _given(model: type[SQLModel], parameter: str) -> Any:
    """Returns the rows of a table from the JSON array in this parameter."""
    table = SQLModel.metadata.tables[str(model.__tablename__)]
    array = cast(bindparam(parameter, type_=Text), JSON)
    rows = func.json_populate_recordset(literal_column(f"NULL::{table.name}"), array)
    return rows.table_valued(*(column(one.name, one.type) for one in table.columns), name=f"given_{table.name}")


def _columns(model: type[SQLModel], *, without: tuple[str, ...]) -> list[str]:
    columns = SQLModel.metadata.tables[str(model.__tablename__)].columns
    return [one.name for one in columns if one.name not in without]
