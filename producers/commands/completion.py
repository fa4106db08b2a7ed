"""What a shell offers for SCAN. It must be quick, because the shell waits for it."""

from urllib.parse import parse_qsl, urlencode

CONNECT_TIMEOUT_S = 1
STATEMENT_TIMEOUT_MS = 500
OFFERED = 50

_NEWEST = """
SELECT id::text, name, status FROM scans WHERE starts_with(id::text, %(begun)s) OR starts_with(name, %(begun)s)
ORDER BY created_at DESC LIMIT %(offered)s
"""


def complete_scan(incomplete: str) -> list[tuple[str, str]]:
    """Returns the newest scans whose id or name begins with this, each with its status for people.

    It returns nothing if the database does not answer at once. It offers the name if the text begins a name, and
    otherwise the id.
    """
    try:
        found = _scans(incomplete)
    except Exception:  # noqa: BLE001 - a shell shows no error here: it offers nothing
        return []
    offered: dict[str, str] = {}
    for scan_id, name, status in found:
        by_name = bool(incomplete) and not scan_id.startswith(incomplete)
        offered.setdefault(name if by_name else scan_id, f"{status} {scan_id if by_name else name}")
    return list(offered.items())


def _scans(begun: str) -> list[tuple[str, str, str]]:
    import psycopg  # alone: SQLAlchemy would take most of the time

    from worker.settings import Settings

    url = _of_libpq(Settings.from_environment().database_url.get_secret_value())
    with psycopg.connect(url, connect_timeout=CONNECT_TIMEOUT_S) as connection:
        connection.execute(f"SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS}", prepare=False)
        return connection.execute(_NEWEST, {"begun": begun, "offered": OFFERED}, prepare=False).fetchall()


def _of_libpq(url: str) -> str:
    """Returns the URL without what only we understand: see worker.database.connect."""
    scheme, _, rest = url.partition("://")
    place, _, query = rest.partition("?")
    kept = [(name, value) for name, value in parse_qsl(query) if name != "prepare_threshold"]
    return f"{scheme.partition('+')[0]}://{place}" + (f"?{urlencode(kept)}" if kept else "")
