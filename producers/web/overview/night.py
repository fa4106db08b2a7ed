"""GET /overview: how the night went, on one page."""

from collections.abc import Sequence
from datetime import date

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from producers.web.access.people import ALead
from producers.web.overview import charts, figures, texts
from producers.web.overview.figures import Row
from producers.web.pages import APages
from producers.web.parts import AParts

router = APIRouter()


@router.get("/overview")
def overview(_person: ALead, pages: APages, parts: AParts) -> HTMLResponse:
    """Shows what the views say now."""
    rows = figures.of_the_night(parts.database)
    return pages.show(
        "overview.html.j2",
        texts=texts,
        scans=[(row, charts.bar_of(row)) for row in rows["scans"]],
        submissions=rows["submissions"][0],
        flagged=_flagged(rows),
        backlog=rows["backlog"][0],
        queues=rows["queues"],
        overturned=_overturned(rows["overturned"]),
        failures=rows["failures"],
        most_failed=max((row["images"] for row in rows["failures"]), default=0),
        failure_bar=lambda images, most: charts.parts([images], most),
        drift=rows["drift"],
        cascades=rows["cascades"],
    )


def _flagged(rows: dict[str, Sequence[Row]]) -> charts.Days:
    today: date = rows["today"][0]["date_trunc"].date()
    counts = {(row["day"].date(), row["detector_name"]): row["contents"] for row in rows["flagged"]}
    return charts.days(counts, today, figures.DAYS)


def _overturned(rows: Sequence[Row]) -> list[tuple[Row, charts.Interval]]:
    top = max((row["overturn_high"] for row in rows), default=1.0)
    return [
        (row, charts.interval(row["overturn_low"], row["overturn_rate"], row["overturn_high"], top=top)) for row in rows
    ]
