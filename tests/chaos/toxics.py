"""What a proxy can do to a connection: the seven toxics of toxiproxy, under its names and with its attributes.

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
        """Ends both sides; what is already written still arrives."""

    def reset(self) -> None:
        """Ends both sides with a TCP reset."""


@dataclass(eq=False, kw_only=True)
class Toxic:
    """Changes nothing. `met` counts how often a toxic had something to work on."""

    met: int = field(default=0, init=False)

    async def carry(self, data: bytes, send: Send, link: Link) -> None:
        """Takes what arrived to the next toxic, or to the other side."""
        self.met += 1
        await send(data)

    async def beside(self, link: Link) -> None:
        """Runs beside each connection while the toxic is there."""

    async def before_close(self) -> None:
        """Runs when one side has closed, before the other side is closed."""

    def lifted(self, link: Link) -> None:
        """Runs for each open connection when the toxic is taken away."""


@dataclass(eq=False, kw_only=True)
class Latency(Toxic):
    """Delays what passes by `latency_s`, give or take `jitter_s`."""

    latency_s: float
    jitter_s: float = 0

    async def carry(self, data: bytes, send: Send, link: Link) -> None:
        """See Toxic."""
        await asyncio.sleep(max(0, self.latency_s + random.uniform(-self.jitter_s, self.jitter_s)))
        await super().carry(data, send, link)


@dataclass(eq=False, kw_only=True)
class Bandwidth(Toxic):
    """Lets `bytes_a_s` bytes a second pass."""

    bytes_a_s: float

    async def carry(self, data: bytes, send: Send, link: Link) -> None:
        """See Toxic. In pieces of a tenth of a second, so that data trickles and does not come at the end."""
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
        """See Toxic. Not counted: it only works on ends."""
        await send(data)

    async def before_close(self) -> None:
        """See Toxic."""
        self.met += 1
        await asyncio.sleep(self.delay_s)


@dataclass(eq=False, kw_only=True)
class Timeout(Toxic):
    """Lets nothing pass, and closes after `timeout_s`; with 0 when the toxic is taken away."""

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
        """See Toxic. What was dropped is missing from the stream: it cannot go on."""
        link.close()


@dataclass(eq=False, kw_only=True)
class ResetPeer(Toxic):
    """Resets connections after `timeout_s`; until then nothing passes."""

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
    """Cuts what passes into slices of `average_size` bytes, give or take `size_variation`, `delay_s` apart."""

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
    """Closes a connection when `limit_bytes` have passed through it, both directions together."""

    limit_bytes: int
    _passed: Counter[int] = field(default_factory=Counter, init=False)

    async def carry(self, data: bytes, send: Send, link: Link) -> None:
        """See Toxic."""
        left = self.limit_bytes - self._passed[id(link)]
        self._passed[id(link)] += len(data)
        await super().carry(data[: max(0, left)], send, link)
        if len(data) >= left:
            link.close()
