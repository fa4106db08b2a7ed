"""Pages for leads: how the night went, scans and what can be done with them, and the dead letters.

`figures` reads the views of docs/dashboards.md, `charts` computes the charts, and `night` shows both. `starting` reads
the form that starts a scan, `scans` shows a scan and acts on it, and `dead` shows the dead letters.
"""

from fastapi import APIRouter

from producers.web.overview import dead, night, scans

router = APIRouter(include_in_schema=False)
router.include_router(night.router)
router.include_router(scans.router)
router.include_router(dead.router)
