"""The engine against the reference, without a mount: the machine that script/soak runs on mounts as well."""

from typing import Any

from hypothesis import settings

from tests.model.engine_adapter import EngineAdapter
from tests.model.machine import StoreMachine


class EngineMachine(StoreMachine):
    """The store with the embedded content engine."""

    engine = "sqlite"

    def make_adapter(self, limit: int, expiry: int) -> Any:
        return EngineAdapter(self.engine, limit, expiry)


class MemoryEngineMachine(EngineMachine):
    """The same with an engine that has no part in the catalog's transactions."""

    engine = "memory"


_SETTINGS = settings(max_examples=50, stateful_step_count=50, deadline=None, derandomize=True)
EngineMachine.TestCase.settings = _SETTINGS
MemoryEngineMachine.TestCase.settings = _SETTINGS
TestStoreOnSqlite = EngineMachine.TestCase
TestStoreOnMemory = MemoryEngineMachine.TestCase
