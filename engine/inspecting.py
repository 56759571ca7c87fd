"""Reading a value for no other reason than to see whether it is whole."""

from collections.abc import Callable

from engine.errors import DamagedError, NotFoundError
from engine.interface import ObjectEngine


def what_is_wrong(engine: ObjectEngine, key: str, size: int, tell: Callable[[int], None]) -> str | None:
    """What is wrong with the value of an object that has so many bytes; None where nothing is.

    `key` is empty where the object has no value of its own, being empty. Holes are not read: they may be of any size.
    `tell` is called with how many bytes were read, again and again. Raises StoreError when that cannot be found out.
    """
    try:
        found = engine.object_size(key) if key else 0
        if found != size:
            return f"the value has {found} bytes, and the catalog says {size}"
        if key:
            for offset, length in engine.stored_ranges(key):
                tell(len(engine.read_object(key, offset, length)))
    except NotFoundError:
        return "the value is lost"
    except DamagedError:
        return "the value is damaged"
    return None
