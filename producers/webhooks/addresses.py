"""Says to which addresses a webhook may be sent, so that nobody reaches a service of our own network through it.

A name is resolved once. Its addresses are checked, and the connection goes to one of these very addresses, so a name
that resolves to another address a moment later (DNS rebinding) gains nothing.
"""

import asyncio
import errno
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

from worker.errors import AddressRefusedError, UsageError

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

_NAT64 = IPv6Network("64:ff9b::/96")
"""RFC 6052: the last 32 bits are the IPv4 address to which the packet goes."""
_EXAMPLE = "https://example.org/fakesweep"
SETTING = "FAKESWEEP_WEBHOOKS_NETWORKS"


@dataclass(frozen=True)
class Place:
    """Where a webhook goes: the parts of its URL that the connection needs."""

    https: bool
    host: str
    port: int


def place_of(url: str) -> Place:
    """Returns the place that a URL names.

    Raises UsageError if a webhook cannot have this URL. The text names the host at most: the rest may hold a secret.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise UsageError(f"this is not a URL: give one such as {_EXAMPLE}") from None
    https = parts.scheme == "https"
    if not (https or parts.scheme == "http") or not parts.hostname:
        raise UsageError(f"this is not an address for webhooks: give one such as {_EXAMPLE}")
    if parts.username is not None or parts.fragment or not url.isprintable() or " " in url:
        raise UsageError(f"{parts.hostname!r}: a webhook's address has no user, no password, no # and no spaces")
    return Place(https, parts.hostname, port or (443 if https else 80))


async def resolve(place: Place, networks: Sequence[Network]) -> list[str]:
    """Returns the addresses of a place, in the order in which to try them.

    Raises AddressRefusedError if one of them is not allowed: see `check`. Raises OSError if the name has none, or is no
    name of a host.
    """
    try:
        found = await asyncio.get_running_loop().getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
    except UnicodeError:  # such as a..b
        raise OSError(errno.EINVAL, "this is not the name of a host") from None
    addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
    check(place, addresses, networks)
    return addresses


def check(place: Place, addresses: Sequence[str], networks: Sequence[Network]) -> None:
    """Raises AddressRefusedError unless each address is public, or in one of the `networks`.

    Plain http is allowed only to these networks.
    """
    for text in addresses:
        one = ip_address(text.partition("%")[0])  # without the zone of a link-local address
        if any(one in network for network in networks):
            continue
        if not is_public(one):
            raise AddressRefusedError(f"{place.host} is {text}, which is not a public address: see {SETTING}")
        if not place.https:
            raise AddressRefusedError(f"{place.host} is {text}: plain http is only for the networks of {SETTING}")


def is_public(address: Address) -> bool:
    """Whether an address belongs to the public internet. An IPv4 address within an IPv6 address must be public, too."""
    inner = _inner(address) if isinstance(address, IPv6Address) else ()
    if inner:
        return all(is_public(one) for one in inner)
    site_local = isinstance(address, IPv6Address) and address.is_site_local
    return address.is_global and not (
        address.is_multicast or address.is_reserved or address.is_unspecified or site_local
    )


def _inner(address: IPv6Address) -> tuple[IPv4Address, ...]:
    if address.ipv4_mapped:
        return (address.ipv4_mapped,)
    if address.sixtofour:
        return (address.sixtofour,)
    if address.teredo:
        return address.teredo
    return (IPv4Address(int(address) & 0xFFFFFFFF),) if address in _NAT64 else ()
