"""Opens the reader of origins, if its libraries are installed."""

from pathlib import Path

import structlog

from worker.provenance.says import OriginReader
from worker.provenance.trust import trust_lists

PROCESSES = 2
"""One reads about 1,000 photos per second. The other one still reads while a hostile file stops the first."""

log = structlog.get_logger(__name__)


def open_reader(trust_list: Path | None) -> OriginReader | None:
    """Returns a reader that trusts the signers in this file, or in the shipped list if it is None.

    Returns None if the extra `provenance` is not installed: then a worker stores nothing about origins.
    Raises ConfigurationError if the file cannot be read.
    """
    lists = trust_lists(trust_list)
    try:
        from worker.provenance import reading  # noqa: F401, PLC0415 - each of its libraries may be missing
        from worker.provenance.reader import ProvenanceReader  # noqa: PLC0415
    except ImportError:
        log.warning("origins_not_read", remedy="pip install 'fakesweep[provenance]'")
        return None
    return ProvenanceReader(lists, processes=PROCESSES)
