"""Sentences of an explanation that contradict its answer are marked."""

import pytest

from producers.web.desk.marking import Piece, marked


def test_a_sentence_that_contradicts_the_answer_is_marked() -> None:
    text = "The light is wrong. This is a real photograph of a cat. So much for that."
    assert [piece for piece in marked(text, "fake") if piece.contradicts] == [
        Piece("This is a real photograph", contradicts=True)
    ]


@pytest.mark.parametrize(
    "text", ["", "This is a fake image.", "It is not real. It is fake. It is real. It is a real image."]
)
@pytest.mark.parametrize("answer", ["fake", "real", "undecided"])
def test_the_pieces_together_are_the_text(text: str, answer: str) -> None:
    assert "".join(piece.text for piece in marked(text, answer)) == text


def test_nothing_contradicts_an_undecided_answer() -> None:
    assert not any(piece.contradicts for piece in marked("This is a real image. This is a fake image.", "undecided"))
