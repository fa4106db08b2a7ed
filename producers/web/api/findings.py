"""Findings of scans and submissions: pages of JSON, or JSON Lines and CSV of any length."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy import text

from producers.reporting import results
from producers.reporting.combined import with_combined
from producers.reporting.opinions import Opinions
from producers.web.api.forms import MEDIA_TYPES, Form, wanted, written
from producers.web.api.models import ApiUri, Finding, strictly
from producers.web.api.paging import LINKED, MAX_PAGE, PAGE, Page, link, linked, next_page
from producers.web.api.problems import ProblemError, answers
from worker.database import Database, transaction
from worker.errors import NoSuchScanError, Reason
from worker.tables import Outcome, Scan, Verdict

TIMEOUT_S = 30
"""A page that takes longer, because few findings match its filter, fails as if the database were away."""

_NONE = {"second_opinions": [], "detectors_differ": False, "combined": None}

DESCRIBED: dict[int | str, dict[str, Any]] = {
    200: LINKED
    | {
        "description": "The findings, by uri.",
        "content": {
            "application/x-ndjson": {"schema": {"type": "string"}},
            "text/csv": {"schema": {"type": "string"}},
        },
    },
    **answers(404, 406, 410),
}


class FindingPage(Page[Finding]):
    """Findings, by uri."""


@dataclass(frozen=True)
class Filters:
    """The filters of a request for findings."""

    verdict: Annotated[Verdict | None, Query(description="Only findings with this verdict.")] = None
    outcome: Annotated[Outcome | None, Query(description="Only findings with this outcome.")] = None
    reason: Annotated[Reason | None, Query(description="Only images that failed for this reason.")] = None


@dataclass(frozen=True)
class Wanted:
    """Which findings are wanted, from where on, how many, and in which format."""

    filters: Annotated[Filters, Depends()]
    after: Annotated[ApiUri | None, Query(description="Only findings after this uri. `next` of a page holds it.")] = (
        None
    )
    limit: Annotated[
        int | None,
        Query(
            ge=1,
            le=MAX_PAGE,
            description=f"How many at most; else {PAGE} in JSON, and all in JSON Lines and CSV.",
            examples=[50],
        ),
    ] = None
    form: Annotated[
        Form | None,
        Query(alias="format", description="json, ndjson or csv. It takes precedence over the header Accept."),
    ] = None
    accept: Annotated[
        str | None,
        Header(description="application/json, application/x-ndjson or text/csv.", examples=["text/csv"]),
    ] = None

    def chosen(self) -> Form:
        """Returns the format of the answer. Raises ProblemError (406)."""
        return self.form or wanted(self.accept)


def known_scan(database: Database, scan_id: UUID, kind: str) -> Scan:
    """Returns the scan or, with `live`, the submission. Raises NoSuchScanError."""
    what = "scan" if kind == "scan" else "submission"
    with transaction(database) as session:
        scan = session.get(Scan, scan_id)
    if scan is None or scan.kind != kind:
        raise NoSuchScanError(f"there is no {what} {scan_id}")
    return scan


def findings_answer(request: Request, response: Response, database: Database, scan: Scan, asked: Wanted) -> Any:
    """The answer with the findings of this scan."""
    form = asked.chosen()
    if scan.dropped_at is not None:
        raise ProblemError(410, f"the findings of {scan.id} were dropped at {scan.dropped_at:%Y-%m-%d %H:%M} UTC")
    if form is Form.JSON:
        size = asked.limit or PAGE
        rows = read(database, scan, asked.filters, asked.after, size + 1)
        address = next_page(request, after=rows[size - 1]["uri"]) if len(rows) > size else None
        link(response, address)
        return FindingPage(items=[Finding.model_validate(strictly(Finding, row)) for row in rows[:size]], next=address)
    if asked.limit is None:
        batches = _all(database, scan, asked.filters, asked.after)
        return _stream(form, batches, linked(None), scan.id)
    rows = read(database, scan, asked.filters, asked.after, asked.limit + 1)
    more = len(rows) > asked.limit
    address = next_page(request, after=rows[asked.limit - 1]["uri"]) if more else None
    return _stream(form, iter([rows[: asked.limit]]), linked(address), scan.id)


def _stream(form: Form, batches: Iterator[list[dict[str, Any]]], headers: Any, scan_id: UUID) -> StreamingResponse:
    first = next(batches, [])  # an error here can still become a normal error answer

    def rest() -> Iterator[list[dict[str, Any]]]:
        yield first
        yield from batches

    name = {"Content-Disposition": f'attachment; filename="findings-{scan_id}.{form.value}"'}
    kind = f"{MEDIA_TYPES[form]}; charset=utf-8"
    return StreamingResponse(written(form, rest()), headers={**headers, **name}, media_type=kind)


def _all(database: Database, scan: Scan, filters: Filters, after: str | None) -> Iterator[list[dict[str, Any]]]:
    """Yields all findings in batches. Between two batches, no connection is held, even if the client reads slowly."""
    while rows := read(database, scan, filters, after, MAX_PAGE):
        yield rows
        if len(rows) < MAX_PAGE:
            return
        after = rows[-1]["uri"]


def read(database: Database, scan: Scan, filters: Filters, after: str | None, limit: int) -> list[dict[str, Any]]:
    """Returns findings by uri, as `fakesweep results` writes them. All have `second_opinions` and `combined`."""
    given = {"verdict": filters.verdict, "outcome": filters.outcome, "reason": filters.reason}
    conditions = [f"d.{name} = :{name}" for name, value in given.items() if value is not None]
    conditions += ["d.uri > :after"] if after is not None else []
    query = " AND ".join(["d.partition = :partition", "d.scan_id = :scan_id", *conditions])
    values = {"partition": scan.partition, "scan_id": scan.id, "after": after, "limit": limit, **given}
    with transaction(database) as session:
        session.execute(text(f"SET LOCAL statement_timeout = '{TIMEOUT_S}s'"))
        rows = session.execute(
            text(f"{results.details_of(scan)} WHERE {query} ORDER BY d.partition, d.scan_id, d.uri LIMIT :limit"),
            values,
        )
        further = Opinions(session, scan)
        found = [
            _NONE | results.finding(row) | further.of(row["verdict"], row.get("opinions")) for row in rows.mappings()
        ]
        return list(with_combined(session, scan, found))
