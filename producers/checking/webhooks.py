"""Whether the sender of webhooks can work: its packages, and each endpoint's address. Nothing is sent."""

import asyncio
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from ipaddress import ip_network
from typing import Any

from producers.checking.rows import Check, Process, Row, State, Subject, ok, skipped, warning, wrong
from producers.checking.web import installed
from worker.errors import AddressRefusedError

_WEBHOOKS = frozenset({Process.WEBHOOKS})
_PACKAGES = ("httpx2", "standardwebhooks")
_MEND = "see docs/webhooks.md"
RESOLVE_S = 5.0
"""How long a name may take to resolve."""


def _packages(subject: Subject) -> Iterator[Row]:
    row = installed("webhooks", *_PACKAGES)
    # With `--for all`, most machines send no webhooks.
    yield row if row.state is State.OK or subject.processes == _WEBHOOKS else skipped(row.found)


def _endpoints(subject: Subject) -> Iterator[Row]:
    if not all(map(find_spec, _PACKAGES)):
        yield skipped("the packages of webhooks are not installed")
        return
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
    if one["disabled_at"]:
        found = f"disabled, because {place.host} answered 410 Gone"
        return warning(found, f"run `fakesweep webhooks replay {name}`, or remove it", name)
    networks = [ip_network(network) for network in subject.settings.webhooks_networks]
    try:
        addresses = asyncio.run(asyncio.wait_for(resolve(place, networks), RESOLVE_S))
    except AddressRefusedError as error:
        return wrong(str(error), "allow its network in FAKESWEEP_WEBHOOKS_NETWORKS, or add another address", name)
    except TimeoutError:
        return wrong(f"no answer about {place.host} within {RESOLVE_S:g} s", "correct the DNS of this machine", name)
    except OSError as error:
        return wrong(f"{place.host} has no address here: {error}", "correct the name, or the DNS of this machine", name)
    if one["dead"]:
        return warning(f"dead messages: {one['dead']}", f"look with `fakesweep webhooks dead {name}`", name)
    return ok(f"{place.host} is {', '.join(addresses)}; messages that wait: {one['waiting']}", name)


CHECKS = (
    Check("webhooks packages", _packages, "pip install 'fakesweep[webhooks]'", None, _WEBHOOKS),
    Check("webhooks endpoint", _endpoints, _MEND, "database rights", _WEBHOOKS),
)
