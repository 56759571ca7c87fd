"""Serving a filesystem as pyfuse3 does it by itself: what the filesystems that we are compared with run on."""

import pyfuse3
import trio


def serve(operations: pyfuse3.Operations, mountpoint: str, name: str) -> None:
    """Mount and serve until it is unmounted."""
    pyfuse3.init(operations, mountpoint, {*pyfuse3.default_options, f"fsname={name}", f"subtype={name}"})
    try:
        trio.run(pyfuse3.main)
    finally:
        pyfuse3.close()
