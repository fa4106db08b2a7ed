"""Formats numbers, shares and times for the pages. An unknown value is a dash."""

from datetime import UTC, datetime

NOTHING = "–"
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def whole(number: float | None) -> str:
    """A whole number, in groups of three digits."""
    return NOTHING if number is None else f"{number:,.0f}"


def rate(number: float | None) -> str:
    """Images per second."""
    return NOTHING if number is None else f"{number:,.1f}"


def percent(share: float | None) -> str:
    """A share between 0 and 1. A share above 0 is never shown as 0 %, and a share below 1 never as 100 %."""
    if share is None:
        return NOTHING
    text = f"{share * 100:.1f} %"
    if share > 0 and text == "0.0 %":
        return "under 0.1 %"
    return "over 99.9 %" if share < 1 and text == "100.0 %" else text


def duration(seconds: float | None) -> str:
    """A time span in its two largest units."""
    if seconds is None:
        return NOTHING
    left = round(seconds)
    if left < _MINUTE:
        return f"{left} s"
    if left < _HOUR:
        return f"{left // _MINUTE} min"
    if left < _DAY:
        return f"{left // _HOUR} h {left % _HOUR // _MINUTE} min"
    return f"{left // _DAY} d {left % _DAY // _HOUR} h"


def hour(time: datetime) -> str:
    """An hour in UTC, given by its start. Hourly counts have no minutes."""
    return f"{time.astimezone(UTC):%Y-%m-%d, in the hour from %H:00} UTC"


def note(status: str, text: str | None) -> str:
    """The note of a scan, as it is shown after its status: "paused by owl" becomes " by owl", and other notes get a
    colon.
    """
    if not text:
        return ""
    return text.removeprefix(status) if text.startswith(f"{status} ") else f": {text}"
