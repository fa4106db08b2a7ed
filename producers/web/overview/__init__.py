"""What a lead needs: how the night went, scans and what is done with them, and the dead letters.

`figures` asks the views of docs/dashboards.md, `charts` draws what they say, `night` shows it. `starting` reads the
form that starts a scan, `scans` shows a scan and acts on it, `dead` shows the dead letters.
"""

from fastapi import APIRouter

from producers.web.overview import dead, night, scans

router = APIRouter(include_in_schema=False)
router.include_router(night.router)
router.include_router(scans.router)
router.include_router(dead.router)
