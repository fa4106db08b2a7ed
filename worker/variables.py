"""Finds environment variables that begin with FAKESWEEP_ and are not a setting, such as names with a typing error."""

import difflib
from collections.abc import Iterable
from collections.abc import Set as AbstractSet

from pydantic_settings import BaseSettings

from worker.secret_files import secret_fields, variable_of

PREFIX = "FAKESWEEP_"

OTHERS = frozenset(
    {
        "FAKESWEEP_REPLICA",  # `fakesweep worker --gpus` tells each of its processes which one it is
        "FAKESWEEP_PARENT_SOCKET",  # the same
        "FAKESWEEP_ANNOTATION_KEY",  # the keys of `fakesweep annotate`: docs/annotation.md
        "FAKESWEEP_API",  # the clients in docs/api.md
        "FAKESWEEP_TOKEN",  # the same
    }
)
"""Variables that are used, but are not a field of a class of settings."""

OTHER_BEGINNINGS = ("FAKESWEEP_ANNOTATION_KEY_",)
"""The beginnings of variables whose names end with a number."""

FROM_FILE = "_FILE"
"""The end of the name of a variable that says in which file a secret is."""


def names_of(settings: type[BaseSettings]) -> set[str]:
    """Returns the names of the variables that a class of settings reads, in capital letters."""
    secrets = {f"{name}{FROM_FILE}" for name in secret_fields(settings).values()}
    return {variable_of(settings, field) for field in settings.model_fields} | secrets


def unknown_variables(given: Iterable[str], known: AbstractSet[str], *, beginnings: tuple[str, ...] = ()) -> str | None:
    """Returns one line that names the variables in `given` that no program reads, or None if there are none.

    `known` holds the names that are read, and `beginnings` the beginnings of further ones.
    """
    names = sorted(name for name in given if name.upper().startswith(PREFIX))
    known = known | OTHERS
    unknown = [name for name in names if not _is_known(name.upper(), known, (*OTHER_BEGINNINGS, *beginnings))]
    if not unknown:
        return None
    told = ", ".join(_told(name, known) for name in unknown)
    return f"no setting has the name {told}" if len(unknown) == 1 else f"no settings have these names: {told}"


def _is_known(name: str, known: AbstractSet[str], beginnings: tuple[str, ...]) -> bool:
    return name in known or name.startswith(beginnings)


def _told(name: str, known: AbstractSet[str]) -> str:
    near = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.8)
    return f"{name} (did you mean {near[0]}?)" if near else name
