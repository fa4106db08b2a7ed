"""Whether the sender of webhooks can work: its packages, and each endpoint's address. Nothing is sent."""

import asyncio
from collections.abc import Iterator, Mapping
from ipaddress import ip_network
from typing import Any

from producers.checking.rows import Check, Process, Row, Subject, ok, skipped, warning, wrong
from producers.checking.web import installed
from worker.errors import AddressRefusedError

_WEBHOOKS = frozenset({Process.WEBHOOKS})
_MEND = "see docs/webhooks.md"


def _packages(_: Subject) -> Iterator[Row]:
    yield installed("webhooks", "httpx2", "standardwebhooks")


def _endpoints(subject: Subject) -> Iterator[Row]:
    from producers.webhooks.endpoints import endpoints
    from worker.database import connect

    database = connect(subject.settings.database_url.get_secret_value(), pool_size=1)
    try:
        found = endpoints(database)
    finally:
        database.dispose()
    if not found:
        yield skipped("there is none: nothing is sent")
    for one in found:
        yield _endpoint(one, subject)


def _endpoint(one: Mapping[str, Any], subject: Subject) -> Row:
    """Says whether messages reach this endpoint. Its URL may hold a key, so the row names the host alone."""
    from producers.webhooks.addresses import place_of, resolve

    name, place = one["name"], place_of(one["url"])
    try:
        addresses = asyncio.run(resolve(place, [ip_network(one) for one in subject.settings.webhooks_networks]))
    except AddressRefusedError as error:
        return wrong(str(error), "allow its network in FAKESWEEP_WEBHOOKS_NETWORKS, or add another address", name)
    except OSError as error:
        return wrong(f"{place.host} has no address here: {error}", "correct the name, or the DNS of this machine", name)
    if one["disabled_at"]:
        found = f"disabled, because {place.host} answered 410 Gone"
        return warning(found, f"run `fakesweep webhooks replay {name}`, or remove it", name)
    if one["dead"]:
        return warning(f"{one['dead']} messages are dead", f"look with `fakesweep webhooks dead {name}`", name)
    return ok(f"{place.host} is {', '.join(addresses)}; {one['waiting']} messages wait", name)


CHECKS = (
    Check("webhooks packages", _packages, "pip install 'fakesweep[webhooks]'", None, _WEBHOOKS),
    Check("webhooks endpoint", _endpoints, _MEND, "database rights", _WEBHOOKS),
)
