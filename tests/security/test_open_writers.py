"""One mount lets only so many files be open for writing at once: the next writer gets ENFILE, readers never do."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from engine.config import DEFAULT_OPEN_WRITERS, load_settings
from engine.errors import InvalidError
from fusefs.cli.mount_options import parse
from tests.conftest import MakeMount
from tests.support.mounting import MountedStore
from tests.support.processes import run_sh, sh
from tests.support.shared_mount import refused
from tests.support.waiting import wait_until

LIMIT = 3
pytestmark = pytest.mark.mount
SETTINGS = {"max_open_writers": LIMIT}
PUT = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


@pytest.fixture
def app(pipeline: Path) -> Path:
    for name in ("old", "other"):
        (pipeline / name).write_text("old")
    return pipeline


@contextmanager
def opened(app: Path, number: int) -> Iterator[list[int]]:
    with ExitStack() as stack:
        fds = [os.open(app / f"k{index}", PUT) for index in range(number)]
        for fd in fds:
            stack.callback(os.close, fd)
        yield fds


NEXT: dict[str, Callable[[Path], int]] = {
    "create": lambda app: os.open(app / "new", PUT),
    "exclusive": lambda app: os.open(app / "new", PUT | os.O_EXCL),
    "truncate": lambda app: os.open(app / "old", os.O_WRONLY | os.O_TRUNC),
    "edit": lambda app: os.open(app / "old", os.O_RDWR),
    "append": lambda app: os.open(app / "old", os.O_WRONLY | os.O_APPEND),
    "joining another writer": lambda app: os.open(app / "k0", PUT),
}


@pytest.mark.parametrize("step", NEXT.values(), ids=NEXT)
def test_the_next_writer(app: Path, step: Callable[[Path], int]) -> None:
    """Is refused whatever it wants to write, and leaves no name behind. Once one has closed, it gets its turn."""
    with opened(app, LIMIT) as fds:
        for _ in range(3):
            with refused(errno.ENFILE):
                step(app)
        assert sorted(os.listdir(app)) == ["old", "other"]
        os.write(fds[0], b"goes on")
    assert (app / "k0").read_text() == "goes on"
    assert (app / "old").read_text() == "old"
    with opened(app, LIMIT - 1):
        os.close(step(app))


def test_the_command_of_the_next_writer_says_so(app: Path) -> None:
    with opened(app, LIMIT):
        done = run_sh("echo new >new", app)
        assert done.returncode != 0
        assert os.strerror(errno.ENFILE) in done.stderr


def test_everything_else_goes_on(app: Path) -> None:
    """Reading, listing, removing, renaming, attributes, and a creation that cannot write."""
    with opened(app, LIMIT):
        assert (app / "old").read_text() == "old"
        sh("set -e; ls; mv old older; chmod 600 older; mkdir d; ln -s older l; rm other; flock k true", app)
        os.truncate(app / "older", 1)
        assert (app / "older").read_text() == "o"
        with (app / "older").open() as first, (app / "older").open() as second:
            assert first.read() == second.read()


def test_a_descriptor_counts_until_its_last_duplicate_is_closed(app: Path) -> None:
    with opened(app, LIMIT) as fds:
        duplicate = os.dup(fds[0])
        os.close(fds[0])
        with refused(errno.ENFILE):
            os.open(app / "new", PUT)
        os.dup2(duplicate, fds[0])
        os.close(duplicate)


def test_refused_and_released_again_and_again(app: Path) -> None:
    """Nothing of a refusal stays: neither a place that is taken nor one too many."""
    with opened(app, LIMIT):
        for _ in range(500):
            with refused(errno.ENFILE):
                os.open(app / "new", PUT)
    for _ in range(50):
        with opened(app, LIMIT), refused(errno.ENFILE):
            os.open(app / "new", PUT)


def test_each_mount_counts_its_own(app: Path, shared: MountedStore, make_mount: MakeMount) -> None:
    second = make_mount(store=shared.store, options=["--max-open-writers", "1"])
    with opened(app, LIMIT):
        there = second.path / app.relative_to(shared.path)
        wait_until((there / "old").exists)
        with opened(there, 1), refused(errno.ENFILE):
            os.open(there / "new", PUT)


@pytest.mark.parametrize("value", ["-1", "many", str(2**31)])
def test_what_is_no_limit(value: str) -> None:
    with pytest.raises(InvalidError, match=r"max_open_writers = .* is not allowed: it takes a whole number from 0"):
        load_settings(environ={"FUSEFS_CONFIG": os.devnull, "FUSEFS_MAX_OPEN_WRITERS": value})


def test_the_ways_to_set_it(tmp_path: Path) -> None:
    (tmp_path / "fusefs.toml").write_text("[mount]\nmax_open_writers = 5\n")
    environ = {"FUSEFS_CONFIG": str(tmp_path / "fusefs.toml")}
    assert load_settings(environ=environ).max_open_writers == 5
    assert load_settings(environ={**environ, "FUSEFS_MAX_OPEN_WRITERS": "6"}).max_open_writers == 6
    assert load_settings(parse(["max_open_writers=7"]).settings, environ).max_open_writers == 7


def test_without_a_limit(make_mount: MakeMount) -> None:
    app = make_mount(max_open_writers=0).pipeline / "app"
    app.mkdir()
    with opened(app, 40):
        pass
    assert len(os.listdir(app)) == 40


def test_the_default() -> None:
    """Enough for ten thousand jobs that write one file each."""
    assert load_settings(environ={"FUSEFS_CONFIG": os.devnull}).max_open_writers == DEFAULT_OPEN_WRITERS > 10_000
