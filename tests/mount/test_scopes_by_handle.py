"""A mount that shows some pipelines and runs alone, asked by number for what else the store holds."""

import errno
import os

import pytest

from tests.conftest import MakeMount
from tests.support.filehandles import handle_of, open_handle
from tests.support.shared_mount import refused

pytestmark = [pytest.mark.mount, pytest.mark.skipif(os.geteuid() != 0, reason="only root can open by handle")]

OTHERS = ("pipeline/other", "pipeline/other/k", "run/7", "run/7/k")


def test_by_handle(make_mount: MakeMount) -> None:
    """A number leads to what is shown, also where the kernel has not met it; to nothing else."""
    whole = make_mount()
    for name in ("pipeline/app", "pipeline/other", "run/42", "run/7"):
        (whole.path / name).mkdir()
        (whole.path / name / "k").write_text("v")
    scoped = make_mount(store=whole.store, options=("--pipeline", "app", "--run", "42"))
    handle = handle_of(scoped.pipeline / "app")
    inside = [os.stat(whole.path / path).st_ino for path in ("pipeline/app/k", "pipeline/app", "run/42", "run", "")]
    for ino in inside:
        os.close(open_handle(scoped.path, handle.of_inode(ino)))
    for path in OTHERS:
        ino = os.stat(whole.path / path).st_ino
        os.close(open_handle(whole.path, handle_of(whole.path).of_inode(ino)))
        with refused(errno.ESTALE):
            open_handle(scoped.path, handle.of_inode(ino))
