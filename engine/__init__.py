"""The object store of fusefs as a library: pipelines, runs, objects with two lifetimes, pluggable content engines.

    from engine import ScopeName, open_store
    from engine.config import load_settings

    with open_store(load_settings().object_store) as store:
        store.create_pipeline(b"app")
        store.put_object(ScopeName.pipeline("app"), b"version", b"1.0")

Nothing here knows of FUSE, of an event loop, or of the mount.
"""

from engine import errors
from engine.interface import ObjectEngine
from engine.model import Effects, ObjectInfo, PipelineInfo, Removed, RunInfo, ScopeKind, ScopeName
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
