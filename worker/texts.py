"""storable() makes text that Postgres and UTF-8 files can hold. encoding_of() says in which encoding a file is."""

import codecs
import re

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def storable(text: str) -> str:
    """Returns the text without NUL characters, and with U+FFFD in place of each lone half of a surrogate pair.

    A model may write both: token 3 of every Llama tokenizer is the byte 0, and JSON can contain both as escapes.
    Postgres refuses NUL, and UTF-8 cannot encode lone surrogates. Two halves that follow each other and belong together
    become their character.
    """
    if not _UNSTORABLE.search(text):
        return text
    return text.replace("\x00", "").encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


_MARKS = {  # UTF-32 before UTF-16: the little-endian mark of UTF-32 begins with that of UTF-16
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def encoding_of(start: bytes) -> str:
    """Returns the encoding that a text's byte-order mark names, in Python's spelling. Without a mark it is UTF-8.

    `start` holds the first four bytes of the text. Programs on Windows write such marks.
    """
    return next((encoding for mark, encoding in _MARKS.items() if start.startswith(mark)), "utf-8")
