"""Any text of a model or a server is changed so that it can be stored."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.texts import storable

ANY = st.text(st.characters(codec=None, exclude_categories=()))


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("plain ü 😀\n\t\x01", "plain ü 😀\n\t\x01"),
        ("The hand\0 has\0\0 six", "The hand has six"),
        ("half \ud83d of it", "half � of it"),
        ("the other \udc00", "the other �"),
        ("both \ud83d\ude00", "both 😀"),
        ("turned \ude00\ud83d", "turned ��"),
        ("a byte \udce9", "a byte �"),
    ],
)
def test_a_stored_text(text: str, stored: str) -> None:
    assert storable(text) == stored


@given(ANY)
def test_any_text_becomes_one_that_postgres_can_store(text: str) -> None:
    stored = storable(text)
    assert "\0" not in stored.encode().decode()
    assert storable(stored) == stored
