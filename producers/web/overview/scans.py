"""Pages for scans: a list, a page for each, the form that starts one, and pausing, resuming, retrying and
cancelling.
"""

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Form
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from producers.further import further_names
from producers.reporting.results import summary
from producers.web.access.people import ALead
from producers.web.csrf import csrf_checked
from producers.web.overview import acts, charts, figures, texts
from producers.web.overview.starting import Shares, StartForm, checked, new_form, start
from producers.web.pages import APages, Pages
from producers.web.parts import AParts, Parts
from worker.database import acting, actors, transaction
from worker.errors import WrongFormError
from worker.messages import Explain, Record

router = APIRouter()


_NO_LIMITS = {"max_flagged_share": "", "max_failed_share": ""}


@router.get("/scans")
def all_scans(_person: ALead, pages: APages, parts: AParts, before: UUID | None = None) -> HTMLResponse:
    """Lists scans, the newest first, or those that were started before another one."""
    rows = figures.scans_before(parts.database, before)
    return pages.show(
        "overview_scans.html.j2", texts=texts, scans=[(row, charts.bar_of(row)) for row in rows[: figures.PAGE]],
        more=rows[figures.PAGE - 1]["scan_id"] if len(rows) > figures.PAGE else None, before=before,
    )  # fmt: skip


@router.get("/scans/new")
def form(_person: ALead, pages: APages, parts: AParts) -> HTMLResponse:
    """Shows the empty form."""
    return _show_form(pages, parts, new_form())


@router.post("/scans", dependencies=[Depends(csrf_checked)])
def started(person: ALead, pages: APages, parts: AParts, given: Annotated[StartForm, Form()]) -> Response:
    """Starts the scan, or shows the form again and says what is wrong."""
    try:
        scan = start(acting(parts.database, actors.reviewer(person.name)), given, parts.settings)
    except WrongFormError as error:
        # A new token, because a changed form may start another scan than the first one did.
        again = given.model_copy(update={"token": new_form().token})
        return _show_form(pages, parts, again, error)
    if scan.status in acts.UNLISTED:
        parts.scans.start(scan.id)
    return RedirectResponse(f"/scans/{scan.id}", status_code=303)


def _show_form(pages: Pages, parts: Parts, given: StartForm, error: WrongFormError | None = None) -> HTMLResponse:
    with transaction(parts.database) as session:
        options = {"explain": list(Explain), "record": list(Record), "also": further_names(session)}
    return pages.show(
        "overview_start.html.j2", status=422 if error else 200, given=given, options=options,
        wrong={error.field: str(error)} if error else {},
    )  # fmt: skip


@router.get("/scans/{scan_id:uuid}")
def scan_page(
    _person: ALead, pages: APages, parts: AParts, scan_id: UUID,
    show: Literal["flagged", "uncertain"] = "flagged", after: str | None = None,
) -> HTMLResponse:  # fmt: skip
    """Shows a scan: its counters, its failures, and flagged or uncertain findings or (`after`) a page of all by uri."""
    scan = figures.of_scan(parts.database, scan_id)
    if after is None and show == "uncertain":
        found = figures.uncertain_of(parts.database, scan_id)
    else:
        found = figures.findings_of(parts.database, scan_id, after=None if after is None else after.replace("\0", ""))
    failures = figures.failures_of(parts.database, scan_id)
    return pages.show(
        "overview_scan.html.j2", texts=texts, scan=scan, rectangles=charts.bar_of(scan), retry=acts.RETRYABLE,
        acts=acts.possible(parts, scan, failures), facts=summary(parts.database, scan_id),
        deaths=parts.scans.deaths(scan_id), ours=parts.scans.running(scan_id), failures=failures, findings=found,
        show=show if after is None else "all", page=figures.PAGE, unlisted=scan["status"] in acts.UNLISTED,
    )  # fmt: skip


@router.get("/scans/{scan_id:uuid}/{act}")
def asked(_person: ALead, pages: APages, parts: AParts, scan_id: UUID, act: str) -> HTMLResponse:
    """Asks for confirmation."""
    return _ask(pages, parts, scan_id, act)


def _ask(
    pages: Pages, parts: Parts, scan_id: UUID, act: str, wrong: WrongFormError | None = None, given: Any = None
) -> HTMLResponse:
    wanted, scan = acts.wanted(parts, scan_id, act)
    return pages.show(
        "overview_act.html.j2", status=422 if wrong else 200, scan=scan, act=wanted, given=given or _NO_LIMITS,
        wrong={wrong.field: str(wrong)} if wrong else {}, texts=texts,
    )  # fmt: skip


@router.post("/scans/{scan_id:uuid}/{act}", dependencies=[Depends(csrf_checked)])
def done(
    person: ALead, pages: APages, parts: AParts, scan_id: UUID, act: str,
    max_flagged_share: Annotated[str, Form()] = "", max_failed_share: Annotated[str, Form()] = "",
) -> Response:  # fmt: skip
    """Does it, and goes back to the scan."""
    given = {"max_flagged_share": max_flagged_share, "max_failed_share": max_failed_share}
    try:
        said = acts.do(parts, person, scan_id, act, checked(Shares, **given))
    except WrongFormError as error:
        return _ask(pages, parts, scan_id, act, error, given)
    if said:
        pages.say(said)
    return RedirectResponse(f"/scans/{scan_id}", status_code=303)
