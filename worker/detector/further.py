"""Finds the descriptions of further detectors, which FAKESWEEP_ALSO names, and words their faults."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from worker.detector.description import CascadeDescription, DetectorDescription
from worker.detector.loading import OVERRIDES, load_description
from worker.errors import ConfigurationError
from worker.settings import Settings

_VARIABLE = re.compile(r"^FAKESWEEP_[A-Z_]+: ")


def without_variable(error: ConfigurationError) -> str:
    """Returns the text of an error without the variable of the main detector at its start."""
    return _VARIABLE.sub("", str(error))


@contextmanager
def faults_of_further(name: str) -> Iterator[None]:
    """Makes a ConfigurationError name FAKESWEEP_ALSO and this further detector.

    What loads, fetches and starts a detector names the variables of the main one, and these are not wrong.
    """
    try:
        yield
    except ConfigurationError as error:
        raise ConfigurationError(f"FAKESWEEP_ALSO: {name}: {without_variable(error)}") from error


def load_further(settings: Settings) -> tuple[DetectorDescription, ...]:
    """Returns the descriptions that FAKESWEEP_ALSO names. No override from the environment is for them.

    Raises like load_description().
    """
    cleared = dict.fromkeys(("model", *OVERRIDES))
    found = []
    for name in settings.also:
        with faults_of_further(name):
            found.append(load_description(settings.model_copy(update={"detector": name, **cleared})))
    return tuple(found)


def check_fit_together(main: DetectorDescription, further: Iterable[DetectorDescription]) -> None:
    """Raises ConfigurationError unless these detectors can give second opinions beside the main one.

    One decode serves all, so they need the same preprocessing. Scans ask for them by their names.
    """
    names = {main.name}
    for one in further:
        if one.name in names:
            raise ConfigurationError(
                f"FAKESWEEP_ALSO: {one.name!r} is the name of another detector of this worker: name each one once, or "
                "give it another name in its description"
            )
        names.add(one.name)
        if isinstance(one, CascadeDescription):
            raise ConfigurationError(
                f"FAKESWEEP_ALSO: {one.name} is a cascade, and its audits count only where it decides: name its judge"
            )
        if one.preprocessing != main.preprocessing:
            raise ConfigurationError(
                f"FAKESWEEP_ALSO: {one.name} prepares images by {one.preprocessing.revision}, and {main.name} by "
                f"{main.preprocessing.revision}: one decode serves both, so give them the same [preprocessing]"
            )
