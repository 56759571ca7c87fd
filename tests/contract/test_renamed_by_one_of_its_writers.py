"""Several processes write one name, and one of them renames it: its own goes along, what others put keeps the name."""

import errno
import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import MakeMount
from tests.support.processes import Other
from tests.support.shared_mount import listed, refused

pytestmark = pytest.mark.mount

PUT = "os.O_RDWR | os.O_CREAT | os.O_TRUNC"
APPEND = "os.O_RDWR | os.O_CREAT | os.O_APPEND"


@pytest.fixture(params=[PUT, APPEND], ids=["put", "append"])
def both(request: pytest.FixtureRequest, pipeline: Path, one: Other, other: Other) -> tuple[Other, Other]:
    """Two processes that create the key k, and know where it is to go: l."""
    for process, value in ((one, b"one"), (other, b"other")):
        process(f"k = os.open(path, {request.param})", path=pipeline / "k", to=pipeline / "l")
        process("os.write(k, value)", value=value)
    return one, other


@pytest.mark.parametrize("who", ["the first", "the second"])
@pytest.mark.parametrize("closes_first", ["it", "the other"])
def test_a_new_name(pipeline: Path, both: tuple[Other, Other], who: str, closes_first: str) -> None:
    mover, stayer = both if who == "the first" else both[::-1]
    moved, stayed = (b"one", b"other") if who == "the first" else (b"other", b"one")
    mover("os.rename(path, to)")
    assert listed(pipeline) == ["l"]
    assert (pipeline / "l").read_bytes() == moved == mover("to.read_bytes()")
    assert (mover("path.exists()"), stayer("path.read_bytes()")) == (False, stayed)
    for process, value in ((mover, moved), (stayer, stayed)):
        assert (process("os.pread(k, 100, 0)"), process("os.fstat(k).st_size")) == (value, len(value))
        process("os.fchmod(k, mode); os.write(k, b'!')", mode=0o640 if process is mover else 0o600)
    assert stayer("path.stat().st_size") == len(stayed) + 1
    for process in (mover, stayer) if closes_first == "it" else (stayer, mover):
        process("os.close(k)")
    assert ((pipeline / "l").read_bytes(), (pipeline / "k").read_bytes()) == (moved + b"!", stayed + b"!")
    assert [(pipeline / name).stat().st_mode & 0o777 for name in "lk"] == [0o640, 0o600]
    assert listed(pipeline) == ["k", "l"]


def test_the_name_is_still_being_created(pipeline: Path, both: tuple[Other, Other]) -> None:
    one, other = both
    one("os.rename(path, to)")
    for process in both:
        with refused(errno.EEXIST):
            process("os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)")
    one("again = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC); os.write(again, b'again'); os.close(again)")
    assert (pipeline / "k").read_bytes() == b"again"
    other("os.rename(path, path.with_name('m')); os.close(k)")
    one("os.close(k)")
    assert {name: (pipeline / name).read_bytes()[-5:] for name in listed(pipeline)} == {"l": b"one", "m": b"other"}


def test_the_old_name_opened_once_it_is_published(pipeline: Path, both: tuple[Other, Other]) -> None:
    """By the one who renamed its own away: it edits what has the name now."""
    one, other = both
    one("os.rename(path, to)")
    other("os.fsync(k)")
    one("n = os.open(path, os.O_RDWR); os.pwrite(n, b'O', 0)")
    assert (one("os.pread(n, 100, 0)"), one("os.pread(k, 100, 0)")) == (b"Other", b"one")
    one("os.close(n); os.close(k)")
    assert [(pipeline / name).read_bytes() for name in "kl"] == [b"Other", b"one"]


def test_after_a_kill_of_the_daemon(make_mount: MakeMount, one: Other, other: Other) -> None:
    """What each of them had closed a descriptor of is there under its own name."""
    store = make_mount()
    (store.pipeline / "p").mkdir()
    path, to = store.pipeline / "p/k", store.pipeline / "p/l"
    for process, value in ((one, b"one"), (other, b"other")):
        process(f"k = os.open(path, {PUT}); os.write(k, value); os.close(os.dup(k))", path=path, value=value)
    one("os.rename(path, to); os.write(k, b'!'); os.close(os.dup(k))", to=to)
    store.kill()
    store.mount()
    assert (path.read_bytes(), to.read_bytes()) == (b"other", b"one!")


def test_what_it_only_reads_goes_along(pipeline: Path, both: tuple[Other, Other]) -> None:
    one, other = both
    for process in both:
        process("r = os.open(path, os.O_RDONLY)")
    one("os.rename(path, to)")
    for process, name, value in ((one, "l", b"one"), (other, "k", b"other")):
        assert process("os.pread(r, 100, 0)") == value
        process("os.close(k)")
        assert process("os.pread(r, 100, 0)") == value == (pipeline / name).read_bytes()
        process("os.close(r)")


def test_a_rename_that_fails(pipeline: Path, both: tuple[Other, Other]) -> None:
    one, other = both
    (pipeline / "l").mkdir()
    (pipeline / "l/x").touch()
    with refused(errno.EISDIR, errno.ENOTEMPTY):
        one("os.rename(path, to)")
    assert (one("path.read_bytes()"), other("path.read_bytes()")) == (b"one", b"other")
    assert not os.path.lexists(pipeline / "k")
    other("os.close(k)")
    one("os.unlink(path); os.close(k)")
    assert listed(pipeline) == ["l"]


def test_one_that_is_published(pipeline: Path, one: Other, other: Other) -> None:
    """The one who renames it edits it, the other replaces it."""
    (pipeline / "k").write_text("value")
    one("k = os.open(path, os.O_RDWR)", path=pipeline / "k", to=pipeline / "l")
    other("k = os.open(path, os.O_RDWR | os.O_TRUNC); os.write(k, b'other')", path=pipeline / "k")
    one("os.pwrite(k, b'V', 0); os.rename(path, to)")
    assert {name: (pipeline / name).read_bytes() for name in listed(pipeline)} == {"l": b"value"}
    assert (one("os.pread(k, 100, 0)"), other("os.pread(k, 100, 0)")) == (b"Value", b"other")
    one("os.close(k)")
    other("os.close(k)")
    assert {name: (pipeline / name).read_bytes() for name in listed(pipeline)} == {"k": b"other", "l": b"Value"}


def test_a_child_renames_what_its_parent_opened(pipeline: Path, both: tuple[Other, Other]) -> None:
    script = ["bash", "-c", "exec 3> k; printf own >&3; mv k l; cat l; printf + >&3; exec 3>&-; cat l; ls"]
    output = subprocess.run(script, cwd=pipeline, stdout=subprocess.PIPE, text=True, check=True, timeout=60).stdout
    assert output == "ownown+l\n"
    for process, value in zip(both, (b"one", b"other"), strict=True):
        process("os.close(k)")
        assert (pipeline / "k").read_bytes()[-len(value) :] == value


@pytest.mark.parametrize(
    ("what", "left"), [("path.stat()", ["k", "l"]), ("path.unlink()", ["l"]), ("path.rename(elsewhere)", ["l", "m"])]
)
def test_who_stays_finds_its_own_by_its_name(
    pipeline: Path, both: tuple[Other, Other], what: str, left: list[str]
) -> None:
    """Also when a descriptor of it was closed, so that it has to be looked for, and another was shown since."""
    mover, stayer = both  # whoever began is shown the published number once that is there
    stayer("os.close(os.dup(k))")
    mover("os.rename(path, to); os.fstat(k)")
    stayer(what, elsewhere=pipeline / "m")
    for process in both:
        process("os.close(k)")
    assert listed(pipeline) == left
