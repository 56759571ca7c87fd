"""The object store of fusefs as a library: pipelines, runs, objects with two lifetimes, pluggable content engines.

    from engine import ScopeName, open_store
    from engine.config import load_settings

    with open_store(load_settings().object_store) as store:
        store.create_pipeline(b"app")
        store.put_object(ScopeName.pipeline("app"), b"version", b"1.0")

Nothing here knows of FUSE, of an event loop, or of the mount.
"""

from typing import TYPE_CHECKING

from engine import errors
from engine.interface import ObjectEngine
from engine.model import Effects, ObjectInfo, PipelineInfo, Removed, RunInfo, ScopeKind, ScopeName

if TYPE_CHECKING:
    from engine.opening import open_store
    from engine.store import Store

__all__ = [
    "Effects",
    "ObjectEngine",
    "ObjectInfo",
    "PipelineInfo",
    "Removed",
    "RunInfo",
    "ScopeKind",
    "ScopeName",
    "Store",
    "errors",
    "open_store",
]


def __getattr__(name: str) -> object:
    # SQLite and all that uses it, 30 ms: not for a command that opens no store.
    if name == "open_store":
        from engine.opening import open_store

        return open_store
    if name == "Store":
        from engine.store import Store

        return Store
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
