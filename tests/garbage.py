"""Python's garbage collector, adapted to sessions of many tests."""

import gc


def set_older_objects_aside() -> None:
    """Keeps later collections from going through what is there now.

    JAX's caches keep millions of objects. A quarter of the processor time of tests went into going
    through them again and again, and late in a session a collection took 2 s.
    """
    gc.collect()
    gc.freeze()
