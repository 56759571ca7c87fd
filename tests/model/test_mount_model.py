"""A real mount against the reference: several processes with files open, and everything that may happen to them.

`script/soak` runs the same machine for as long as one likes, with fresh randomness.
"""

import pytest
from hypothesis import HealthCheck, settings

from tests.model.mount_machine import MountMachine


@pytest.mark.mount
@pytest.mark.slow
class TestStoreOnAMount(MountMachine.TestCase):
    """The machine as a test; derandomized, so that a run fails for a change and not by chance."""

    settings = settings(
        max_examples=25,
        stateful_step_count=50,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow],
    )

    @classmethod
    def tearDownClass(cls) -> None:
        """Before the end of the run looks for mounts that are left."""
        if MountMachine.pool is not None:
            MountMachine.pool.close()
            MountMachine.pool = None
