"""Python's garbage collector, adapted to what JAX does while it traces.

Tracing allocates millions of objects that live as long as JAX's caches. With Python's defaults, a
tenth of the processor time of tests went into looking for cycles among young objects, and a quarter
into going through old ones.
"""

import gc


def collect_rarely() -> None:
    """Looks for cycles once per 50,000 new objects, not per 700, and among old objects rarely."""
    gc.set_threshold(50_000, 20, 100)


def set_older_objects_aside() -> None:
    """Keeps later collections from going through what is there now."""
    gc.collect()
    gc.freeze()
