"""Text that Postgres and UTF-8 files can hold, made of text that they cannot; and the encoding of what people save."""

import codecs
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


_MARKS = {  # the longer ones first: UTF-32's little-endian mark begins with UTF-16's
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def encoding_of(start: bytes) -> str:
    """The encoding that a text's byte-order mark says, as Python names it; UTF-8 without one. Windows writes marks.

    `start`: its first four bytes.
    """
    return next((encoding for mark, encoding in _MARKS.items() if start.startswith(mark)), "utf-8")
