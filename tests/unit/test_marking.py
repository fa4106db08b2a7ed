"""What contradicts an answer is marked in its explanation."""

import pytest

from producers.web.desk.marking import Piece, marked


def test_the_sentence_that_says_the_opposite_is_marked() -> None:
    text = "The light is wrong. This is a real photograph of a cat. So much for that."
    assert [piece for piece in marked(text, "fake") if piece.contradicts] == [
        Piece("This is a real photograph", contradicts=True)
    ]


@pytest.mark.parametrize(
    "text", ["", "This is a fake image.", "It is not real. It is fake. It is real. It is a real image."]
)
@pytest.mark.parametrize("answer", ["fake", "real", "undecided"])
def test_nothing_is_lost_or_said_twice(text: str, answer: str) -> None:
    assert "".join(piece.text for piece in marked(text, answer)) == text


def test_nothing_contradicts_an_undecided_answer() -> None:
    assert not any(piece.contradicts for piece in marked("This is a real image. This is a fake image.", "undecided"))
