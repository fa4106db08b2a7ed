"""The seven toxics of toxiproxy, with the same names and attributes: each disturbs connections in another way.

https://github.com/Shopify/toxiproxy#toxics describes them. A toxic works on both directions of each connection.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

Send = Callable[[bytes], Awaitable[None]]


class Link(Protocol):
    """A connection through the proxy, as a toxic sees it."""

    def close(self) -> None:
        """Closes both sides. Bytes that are already written still arrive."""

    def reset(self) -> None:
        """Closes both sides with a TCP reset."""


@dataclass(eq=False, kw_only=True)
class Toxic:
    """The base class, which changes nothing. `met` counts how often the toxic had something to work on."""

    met: int = field(default=0, init=False)

    async def carry(self, data: bytes, send: Send, link: Link) -> None:
        """Hands the bytes that arrived to the next toxic, or to the other side."""
        self.met += 1
        await send(data)

    async def beside(self, link: Link) -> None:
        """Runs beside each connection while the toxic is there."""

    async def before_close(self) -> None:
        """Runs when one side has closed, before the other side is closed."""

    def lifted(self, link: Link) -> None:
        """Runs for each open connection when the toxic is removed."""


@dataclass(eq=False, kw_only=True)
class Latency(Toxic):
    """Delays all bytes by `latency_s`, plus or minus `jitter_s`."""

    latency_s: float
    jitter_s: float = 0

    async def carry(self, data: bytes, send: Send, link: Link) -> None:
        """See Toxic."""
        await asyncio.sleep(max(0, self.latency_s + random.uniform(-self.jitter_s, self.jitter_s)))
        await super().carry(data, send, link)


@dataclass(eq=False, kw_only=True)
class Bandwidth(Toxic):
    """Lets `bytes_a_s` bytes pass per second."""

    bytes_a_s: float

    async def carry(self, data: bytes, send: Send, link: Link) -> None:
        """See Toxic. Sends a piece every tenth of a second, so that the data arrives slowly and not all at the end."""
        size = max(1, int(self.bytes_a_s / 10))
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            await asyncio.sleep(len(piece) / self.bytes_a_s)
            await super().carry(piece, send, link)


@dataclass(eq=False, kw_only=True)
class SlowClose(Toxic):
    """When one side closes, the other side learns of it after `delay_s`."""

    delay_s: float

    async def carry(self, data: bytes, send: Send, link: Link) -> None:
        """See Toxic. This does not count, because the toxic works only on the end of a connection."""
        await send(data)

    async def before_close(self) -> None:
        """See Toxic."""
        self.met += 1
        await asyncio.sleep(self.delay_s)


@dataclass(eq=False, kw_only=True)
class Timeout(Toxic):
    """Lets nothing pass, and closes the connection after `timeout_s`. With 0, it closes when the toxic is removed."""

    timeout_s: float = 0

    async def carry(self, data: bytes, send: Send, link: Link) -> None:
        """See Toxic."""
        self.met += 1

    async def beside(self, link: Link) -> None:
        """See Toxic."""
        if self.timeout_s:
            await asyncio.sleep(self.timeout_s)
            self.met += 1
            link.close()

    def lifted(self, link: Link) -> None:
        """See Toxic. The stream cannot continue, because the dropped bytes are missing."""
        link.close()


@dataclass(eq=False, kw_only=True)
class ResetPeer(Toxic):
    """Lets nothing pass, and resets the connection after `timeout_s`."""

    timeout_s: float = 0

    async def carry(self, data: bytes, send: Send, link: Link) -> None:
        """See Toxic."""
        self.met += 1

    async def beside(self, link: Link) -> None:
        """See Toxic."""
        await asyncio.sleep(self.timeout_s)
        self.met += 1
        link.reset()

    def lifted(self, link: Link) -> None:
        """See Toxic."""
        link.reset()


@dataclass(eq=False, kw_only=True)
class Slicer(Toxic):
    """Cuts the bytes into slices of `average_size`, plus or minus `size_variation`, and waits `delay_s` after each."""

    average_size: int
    size_variation: int = 0
    delay_s: float = 0

    async def carry(self, data: bytes, send: Send, link: Link) -> None:
        """See Toxic."""
        start = 0
        while start < len(data):
            size = max(1, self.average_size + random.randint(-self.size_variation, self.size_variation))
            await super().carry(data[start : start + size], send, link)
            start += size
            await asyncio.sleep(self.delay_s)


@dataclass(eq=False, kw_only=True)
class LimitData(Toxic):
    """Closes a connection when `limit_bytes` have passed through it, in both directions together."""

    limit_bytes: int
    _passed: Counter[int] = field(default_factory=Counter, init=False)

    async def carry(self, data: bytes, send: Send, link: Link) -> None:
        """See Toxic."""
        left = self.limit_bytes - self._passed[id(link)]
        self._passed[id(link)] += len(data)
        await super().carry(data[: max(0, left)], send, link)
        if len(data) >= left:
            link.close()
