"""Finds personal data in the texts of a statement of reasons, which Art. 24(5) DSA forbids.

A check by patterns cannot find every name. So no text comes from a review, a finding or an object: all texts are the
platform's own templates, and this check finds what somebody may have copied into a template.
"""

import re
from collections.abc import Iterable, Iterator
from ipaddress import AddressValueError, IPv6Address

_FORMS = (
    ("an e-mail address", re.compile(r"[^\s@<>()\[\],;:]+@[^\s@<>()\[\],;:]+\.[^\W\d_]{2,}")),
    ("the name of an account", re.compile(r"(?<![\w./@])@\w[\w.]{1,}")),
    ("the place of a file", re.compile(r"\b(?:s3|gs|az|file|ftp|data):/*\S+", re.IGNORECASE)),
    ("the name of a picture", re.compile(r"\S+\.(?:jpe?g|png|webp|gif|avif|heic|heif|tiff?|bmp)\b", re.IGNORECASE)),
    ("a SHA-256 or another long number in hex", re.compile(r"\b[0-9a-f]{32,}\b", re.IGNORECASE)),
    ("an IP address", re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}\b")),
    ("a phone number", re.compile(r"(?<![\w.])(?:\+|00)\d[\d ()/.-]{7,}\d")),
    ("a bank account (IBAN)", re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b")),
)
"""What a text must not have, and how it looks."""

_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{0,4}(?![\w:])", re.IGNORECASE)
"""What may be an IPv6 address. It may also be a time such as 12:30:45."""

_URL_IN_TEXT = re.compile(r"(?:https?://)?[\w-]+(?:\.[\w-]+)+(?::\d+)?[/?#]\S+", re.IGNORECASE)
_ACCOUNT_IN_URL = re.compile(r"/(?:@|~|u/|user/|users/|profile/|profiles/|people/)[^/?#]+|//[^/]*@|[?#]", re.IGNORECASE)


def personal(text: str, names: Iterable[str] = ()) -> Iterator[str]:
    """Yields what looks like personal data in a text, each with the piece. `names`: pseudonyms of reviewers.

    A name counts as a whole word, whatever its case.
    """
    for what, form in _FORMS:
        yield from (f"{what}: {found[0]!r}" for found in form.finditer(text))
    yield from (f"an IP address: {found[0]!r}" for found in _IPV6.finditer(text) if _is_ipv6(found[0]))
    for found in _URL_IN_TEXT.finditer(text):
        yield from personal_in_url(found[0].rstrip(".,;:!?)"))
    for name in names:
        if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text, re.IGNORECASE):
            yield f"the name of a reviewer: {name!r}"


def _is_ipv6(text: str) -> bool:
    try:
        return IPv6Address(text).packed != bytes(16)  # two colons alone are an address too
    except AddressValueError:
        return False


def personal_in_url(url: str) -> Iterator[str]:
    """Yields what may name a person in the address of terms or of a law: an account, a query or a fragment."""
    if found := _ACCOUNT_IN_URL.search(url):
        yield f"a part of an address that may name a person: {found[0]!r}"
