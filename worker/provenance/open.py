"""Opens the readers of what files say about their origin, if their libraries are installed."""

from importlib.util import find_spec
from pathlib import Path

import structlog

from worker.provenance.says import ProvenanceReader
from worker.provenance.trust import trust_lists

log = structlog.get_logger(__name__)

_LIBRARIES = ("c2pa", "defusedxml", "pebble", "sd_parsers")


def open_readers(trust_list: Path | None) -> tuple[ProvenanceReader | None, ProvenanceReader | None]:
    """Returns a reader for scans, and one for live images, which do not wait for scans.

    They trust the signers in this file, or in the shipped list if it is None. Both are None if the extra `provenance`
    is not installed: then a worker stores nothing about origins.

    Raises ConfigurationError if the file cannot be read or holds a damaged certificate.
    """
    lists = trust_lists(trust_list)
    if not all(find_spec(one) for one in _LIBRARIES):
        log.warning("provenance_not_read", remedy="pip install 'fakesweep[provenance]'")
        return None, None
    from worker.provenance.isolated import IsolatedReader  # noqa: PLC0415 - its libraries may be missing

    return IsolatedReader(lists), IsolatedReader(lists)
