"""Makes Python look for garbage less often, for commands that list."""

import gc

ALLOCATIONS = 50_000
"""How many objects are made between two collections. Python's own limit is 700. A chunk has 10,000 images."""


def collect_seldom() -> None:
    """Sets this limit. Call it when everything is imported, in a process that lists and does little else.

    Image refs and rows are in no cycles, so Python frees them without a garbage collection. With the default limit,
    Python would look through them, and through all modules, so often that a listing takes 50 % longer.
    """
    gc.freeze()
    gc.set_threshold(ALLOCATIONS, 10, 10)
