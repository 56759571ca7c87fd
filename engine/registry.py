"""Content engines by name: those that come with fusefs, and those that other distributions register.

A third-party engine is an entry point of the group "fusefs.engines" whose object is an `ObjectEngine` class:

    [project.entry-points."fusefs.engines"]
    dirstore = "fusefs_dirstore:DirectoryEngine"

The built-in names need no installed metadata, and nobody else can take them.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from engine.errors import InvalidError, OpenError, StoreError
from engine.interface import ObjectEngine
from engine.memory import MemoryEngine

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

ENTRY_POINT_GROUP = "fusefs.engines"

EMBEDDED = "sqlite"
"""The engine inside the catalog's own file. The store opens it with the catalog, so it is listed but not made here."""

BUILT_IN: Mapping[str, type[ObjectEngine]] = {"memory": MemoryEngine}


def engine_names() -> list[str]:
    """Return the names of all engines that are installed, sorted, without loading any."""
    return sorted({EMBEDDED, *BUILT_IN, *(entry.name for entry in _entry_points())})


def load_engine(name: str, options: Mapping[str, str]) -> ObjectEngine:
    """Find the engine called `name` and open it with `options`.

    Raises InvalidError when there is none of that name, for "sqlite" (which only the store can open), and when the
    engine refuses an option; OpenError when the engine's code cannot be loaded or it cannot be opened.
    """
    if name == EMBEDDED:
        raise InvalidError(f"engine {name!r} lives in the catalog's file: open a store to use it")
    engine_class = BUILT_IN.get(name) or _third_party(name)
    try:
        return engine_class(options)
    except StoreError:
        raise
    except Exception as error:
        raise OpenError(f"engine {name!r} cannot be opened: {_reason(error)}") from error


def _third_party(name: str) -> type[ObjectEngine]:
    entry = _entry_point(name)
    try:
        found: object = entry.load()
    except Exception as error:  # whatever a module does when it is imported
        raise OpenError(f"engine {name!r} cannot be loaded from {entry.value}: {_reason(error)}") from error
    if not (isinstance(found, type) and issubclass(found, ObjectEngine)):
        raise OpenError(f"engine {name!r} cannot be used: {entry.value} is no subclass of engine.ObjectEngine")
    missing = sorted(found.__abstractmethods__)
    if missing:
        raise OpenError(f"engine {name!r} cannot be used: {entry.value} does not define {', '.join(missing)}")
    return found


def _entry_point(name: str) -> "EntryPoint":
    by_value = {entry.value: entry for entry in _entry_points() if entry.name == name}
    if not by_value:
        raise InvalidError(f"unknown engine {name!r}: available are {', '.join(engine_names())}")
    if len(by_value) > 1:
        raise OpenError(f"engine {name!r} is registered more than once: as {' and as '.join(sorted(by_value))}")
    return next(iter(by_value.values()))


def _entry_points() -> list["EntryPoint"]:
    # Imported here because it costs a good part of the command's start-up, and most stores need no third-party engine.
    from importlib.metadata import entry_points

    return list(entry_points(group=ENTRY_POINT_GROUP))


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
