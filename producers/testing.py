"""Fakes that behave like the real source and the real publisher. The same contract suite runs on both publishers."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

from producers.listing import Page, Rules, SkipReason
from worker.errors import BrokerUnavailableError
from worker.messages import ImageRef


class InMemorySource:
    """A Source of given refs, in pages of `page_size`."""

    def __init__(self, refs: Sequence[ImageRef], rules: Rules, page_size: int = 16) -> None:
        self._refs, self._rules, self._page_size = refs, rules, page_size

    def pages(self, cursor: str | None) -> Iterator[Page]:
        """See producers.listing.Source."""
        for start in range(int(cursor or 0), len(self._refs), self._page_size):
            listed = self._refs[start : start + self._page_size]
            causes = [(ref, self._rules.skip_reason(ref.uri, ref.size)) for ref in listed]
            skipped: Counter[SkipReason] = Counter(cause for _, cause in causes if cause)
            yield Page(tuple(ref for ref, cause in causes if cause is None), str(start + len(listed)), skipped)


class InMemoryPublisher:
    """Keeps what is published, by queue, in order.

    After `fail_after` messages, it refuses the next one, once. A broker that does not come back, or a killed process,
    behaves in this way: messages before it in the same call are published. `before` is called before each message.
    """

    def __init__(self, *, fail_after: int | None = None, before: Callable[[], None] = lambda: None) -> None:
        self.published: list[tuple[str, dict[str, Any]]] = []
        self._fail_after, self._before = fail_after, before

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """See BulkPublisher."""

    def publish(
        self, queue: str, messages: Sequence[dict[str, Any]], *, waiting: Callable[[], None] = lambda: None
    ) -> None:
        """See BulkPublisher. Its queue is full once before each message."""
        for message in messages:
            self._before()
            waiting()
            if self._fail_after is not None and len(self.published) >= self._fail_after:
                self._fail_after = None
                raise BrokerUnavailableError("BROKER_URL: the broker went away")
            self.published.append((queue, message))

    @property
    def uris(self) -> list[str]:
        """Returns every uri that was published, as often as it was published."""
        return [image["uri"] for _, message in self.published for image in message["images"]]
