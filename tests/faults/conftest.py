"""No test of a mount with a fault waits for ever."""

from tests.support.shared_mount import never_for_ever

__all__ = ["never_for_ever"]
