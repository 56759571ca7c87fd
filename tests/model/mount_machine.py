"""The machine on real mounts."""

from typing import Any, ClassVar

from tests.model.machine import StoreMachine
from tests.model.mount_adapter import MountAdapter
from tests.model.mount_pool import Pool


class MountMachine(StoreMachine):
    """A store of its own for each example; workers are used again."""

    pool: ClassVar[Pool | None] = None

    def make_adapter(self, limit: int, expiry: int) -> Any:
        MountMachine.pool = MountMachine.pool or Pool()
        return MountAdapter(MountMachine.pool, limit, expiry)
