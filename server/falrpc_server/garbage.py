"""How often Python looks for garbage that reference counts do not find (docs/decisions/0011-garbage.md)."""

import gc

__all__ = ["look_rarely"]

FULL_COLLECTION_EVERY = 1_000  # collections of the middle generation; 10 by default


def look_rarely() -> None:
    """Makes full collections rare, and spares them what is there already: modules and classes.

    A full collection looks at every object while nothing else is done: 0.8 s with 5,000 streams open. Calls
    leave almost nothing for it to find.
    """
    gc.collect()
    gc.freeze()
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, FULL_COLLECTION_EVERY)
