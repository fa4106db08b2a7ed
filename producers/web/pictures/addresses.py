"""Signed addresses of pictures."""

import time
from dataclasses import dataclass
from enum import StrEnum

from itsdangerous import BadSignature, SignatureExpired, TimestampSigner, URLSafeTimedSerializer

from producers.web.access.people import Person
from producers.web.parts import Parts
from producers.web.settings import WebSettings
from worker.errors import ExpiredAddressError, WrongAddressError

PATH = "/pictures/"
_SALT = "fakesweep.pictures"
_STEPS = 4
"""An address stays the same for a quarter of its life, so that a browser can use a picture that it loaded before."""


class Kind(StrEnum):
    """The forms of a picture. In the blurred ones, nothing can be recognised, whatever the browser does with them."""

    CLEAR = "clear"
    BLURRED = "blurred"
    SMALL_BLURRED = "small_blurred"


@dataclass(frozen=True)
class Wanted:
    """What an address names: a content, its place, and the form in which it is shown."""

    sha256: str
    uri: str
    kind: Kind


class _SteppedSigner(TimestampSigner):
    """Signs with a time that moves in steps."""

    step_s = 1

    def get_timestamp(self) -> int:
        return int(time.time()) // self.step_s * self.step_s


def address(parts: Parts, person: Person, sha256: str, uri: str, kind: Kind) -> str:
    """Returns the address at which this person sees this content for a while, as a path.

    It works for at most FAKESWEEP_WEB_PICTURE_TTL_S, and for at least three quarters of that.
    """
    return PATH + str(_serializer(parts.settings).dumps([sha256, uri, kind, person.name]))


def read(parts: Parts, person: Person, signed: str) -> Wanted:
    """Returns what the last part of an address names. Raises WrongAddressError and ExpiredAddressError."""
    try:
        sha256, uri, kind, name = _serializer(parts.settings).loads(signed, max_age=parts.settings.picture_ttl_s)
    except SignatureExpired as error:
        raise ExpiredAddressError from error
    except BadSignature as error:
        raise WrongAddressError from error
    if name != person.name:
        raise WrongAddressError
    try:
        return Wanted(sha256, uri, Kind(kind))
    except ValueError as error:  # an address of another release
        raise WrongAddressError from error


def _serializer(settings: WebSettings) -> URLSafeTimedSerializer:
    step_s = max(1, settings.picture_ttl_s // _STEPS)
    signer = type("Signer", (_SteppedSigner,), {"step_s": step_s})
    return URLSafeTimedSerializer(settings.secret.get_secret_value(), salt=_SALT, signer=signer)
