"""Other users, and a local directory that they reach."""

from tests.posix.conftest import local, twins, users
from tests.support.shared_mount import never_for_ever, pipeline, run, shared

__all__ = ["local", "never_for_ever", "pipeline", "run", "shared", "twins", "users"]
