"""Marks the parts of an explanation that contradict the answer."""

from typing import NamedTuple

from worker.detector.verdicts import Answer, contradictions


class Piece(NamedTuple):
    """A part of an explanation. `contradicts`: it says the opposite of the answer."""

    text: str
    contradicts: bool


def marked(explanation: str, answer: str, words: tuple[str, str] = ("fake", "real")) -> list[Piece]:
    """Splits the explanation into pieces, in order. If the answer is undecided, nothing contradicts it.

    `words` are the detector's own words for fake and for real.
    """
    spans = [] if answer == Answer.UNDECIDED else contradictions(explanation, Answer(answer), words)
    pieces, end = [], 0
    for start, stop in sorted(spans):
        if start < end:
            continue  # two readings of the same sentence
        pieces += [Piece(explanation[end:start], contradicts=False), Piece(explanation[start:stop], contradicts=True)]
        end = stop
    return [piece for piece in [*pieces, Piece(explanation[end:], contradicts=False)] if piece.text]
