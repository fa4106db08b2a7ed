"""How often a command that lists looks for garbage."""

import gc

ALLOCATIONS = 50_000
"""Objects that are made between two looks; Python's own limit is 700. A chunk has 10,000 images."""


def collect_seldom() -> None:
    """Call it when everything is imported, in a process that lists and does little else.

    Image refs and rows are in no cycles, so that Python frees them without looking for them. Otherwise it would look
    through them, and through all modules, so often that a listing takes 50 % longer.
    """
    gc.freeze()
    gc.set_threshold(ALLOCATIONS, 10, 10)
