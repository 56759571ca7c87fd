"""The shared mount of each module."""

from tests.support.shared_mount import never_for_ever, other_pipeline, pipeline, run, shared

__all__ = ["never_for_ever", "other_pipeline", "pipeline", "run", "shared"]
