"""Adds the combined score of a stack to a scan's lines, where every detector of the stack has judged the content."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from sqlalchemy import text
from sqlmodel import Session

from worker.tables import Scan

_PAGE = 1000
_CONCERNED = text("SELECT EXISTS (SELECT FROM stacks WHERE detector_ids && CAST(:detectors AS bigint[]))")
_NEWEST = text("""
SELECT DISTINCT ON (uri) uri, stack, stack_fingerprint AS fingerprint, score, verdict, from_elsewhere
FROM combined_scores
WHERE partition = :partition AND scan_id = :scan_id AND uri = ANY (:uris) AND missing = '{}'
ORDER BY uri, choice_id DESC
""")


def with_combined(session: Session, scan: Scan, lines: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yields the lines of `fakesweep results`, with `combined` where a stack applies.

    The stack that was stored last applies. A line to which none applies stays as it is, and so do all lines of a
    scan whose detectors are in no stack.
    """
    if not session.execute(_CONCERNED, {"detectors": scan.detector_ids}).scalar():
        yield from lines
        return
    left = iter(lines)
    while page := list(islice(left, _PAGE)):
        given = {"partition": scan.partition, "scan_id": scan.id, "uris": [line["uri"] for line in page]}
        found = {row.pop("uri"): row for row in map(dict, session.execute(_NEWEST, given).mappings())}
        for line in page:
            yield line | {"combined": found[line["uri"]]} if line["uri"] in found else line
