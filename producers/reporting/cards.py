"""Collects the contents that a report shows: the best of a stream of rows, each content once with all its places."""

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Row = Mapping[str, Any]
"""A line of `fakesweep results`."""

MAX_PLACES = 50
"""How many places of a content are kept. The others are counted."""


@dataclass
class Card:
    """A content: its first row, how many images of the scan have this content, and the rows of the first MAX_PLACES.

    `also` has the first row of each other judgement of the same content, by another detector in the same scan.
    """

    row: Row
    images: int = 1
    places: list[Row] = field(default_factory=list)
    also: list[Row] = field(default_factory=list)

    def add(self, rows: Iterable[Row], images: int = 1) -> None:
        """Counts more images with this content, and keeps their places while there is room."""
        self.images += images
        self.places += list(rows)[: max(MAX_PLACES - len(self.places), 0)]


def score_of(row: Row) -> float:
    """The score of the main detector, or -1 without one."""
    return -1.0 if row["score"] is None else float(row["score"])


def highest_score(row: Row) -> float:
    """The highest score that a detector of the scan gave the image, or -1 without one."""
    others = (score_of(one) for one in row.get("second_opinions", ()))
    return max(score_of(row), *others, -1.0)


class Best:
    """Keeps the `limit` contents with the highest scores, and no others, in memory.

    Rows must come by uri, as `results` gives them. Images with the same content and the same judgement have the same
    score. So a content that is left out once is always left out, and no place is missed.
    """

    def __init__(self, limit: int, score: Callable[[Row], float] = score_of) -> None:
        self._limit, self._score = limit, score
        self._cards: dict[tuple[Any, ...], Card] = {}
        self._lowest: list[tuple[float, int, tuple[Any, ...]]] = []
        self._seen = 0

    def add(self, row: Row) -> None:
        """Adds a row, if its score is high enough."""
        self._seen += 1
        key = (row["sha256"] or row["uri"], row["verdict"], row["score"], str(row["detector"]))
        if known := self._cards.get(key):
            known.add([row])
            return
        rank = (self._score(row), -self._seen, key)
        if len(self._lowest) >= self._limit:
            if not self._lowest or rank < self._lowest[0]:
                return
            del self._cards[heapq.heappop(self._lowest)[2]]
        heapq.heappush(self._lowest, rank)
        self._cards[key] = Card(row, places=[row])

    def cards(self) -> list[Card]:
        """Returns the contents: the highest score first, equal scores by uri, contents without a score last."""
        found: dict[Any, Card] = {}
        for card in sorted(self._cards.values(), key=lambda card: (-self._score(card.row), card.row["uri"])):
            same = found.setdefault(card.row["sha256"] or card.row["uri"], card)
            if same is not card:
                same.add(card.places, card.images)
                same.also.append(card.row)
        return list(found.values())


def addresses(cards: Iterable[Card]) -> Iterator[str]:
    """Returns the SHA-256 of each card that has one."""
    return (card.row["sha256"] for card in cards if card.row["sha256"])
