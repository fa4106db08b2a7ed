"""Text that Postgres and UTF-8 files can hold, made of text that they cannot."""

import re

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def storable(text: str) -> str:
    """The text without NUL characters, and with U+FFFD in place of each half of a surrogate pair that stands alone.

    A model may write both: token 3 of every Llama tokenizer is the byte 0, and JSON can spell either. Postgres refuses
    NUL, UTF-8 has no lone surrogates. Two halves in a row that belong together become their character.
    """
    if not _UNSTORABLE.search(text):
        return text
    return text.replace("\x00", "").encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
