"""Makes HTML pages from templates. Templates escape everything that they are given, and an unknown name is an error."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

# Control, bidirectional, zero-width and tag characters, which can hide or reorder the text around them. The joiners
# U+200C and U+200D are allowed, because Persian and emoji need them.
_DECEPTIVE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def templates_in(folder: Path, **filters: Callable[..., Any]) -> Environment:
    """Returns the templates of `folder`, with the filters of this module and the given ones.

    Filters: `visible` for text of strangers, `moment` for a time, `share` for a part of a whole, `compact` for a count.
    """
    made = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"visible": visible, "moment": moment, "share": share, "compact": compact, **filters}
    return made


def visible(text: str, keep: str = "") -> str:
    """Returns `text` with every deceptive character, except those in `keep`, as its code point, such as ⟨U+202E⟩."""
    return _DECEPTIVE.sub(lambda found: found[0] if found[0] in keep else spelled_out(found[0]), text)


def spelled_out(char: str) -> str:
    """Returns a character as its code point, such as ⟨U+202E⟩."""
    return f"⟨U+{ord(char):04X}⟩"


def moment(iso: str) -> str:
    """Returns a time in ISO 8601 in a form for people, in UTC and to the second."""
    return f"{datetime.fromisoformat(iso).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def share(part: int, whole: int) -> str:
    """Returns a share in per cent with one decimal. A small share is never shown as none, and a large one never as
    all.
    """
    if not whole:
        return "–"
    shown = f"{100 * part / whole:.1f} %"
    if part and shown == "0.0 %":
        return "< 0.1 %"
    return "> 99.9 %" if part < whole and shown == "100.0 %" else shown


def compact(count: int) -> str:
    """Returns a count with three digits and a letter for thousands, millions or billions, such as 12.3k."""
    for unit, letter in ((1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")):
        if count >= unit:
            return f"{count / unit:.3g}{letter}"
    return str(count)
