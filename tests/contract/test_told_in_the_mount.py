"""What an eviction or expiry took, limits and order can be read in the mount, as attributes that no listing shows."""

import errno
import os
from pathlib import Path

import pytest

from tests.conftest import MakeMount
from tests.posix.twins import User
from tests.support.mounting import MountedStore
from tests.support.processes import Other, sh
from tests.support.shared_mount import listed, refused
from tests.support.waiting import wait_until

pytestmark = pytest.mark.mount

SETTINGS = {"pipeline_object_limit": 3, "run_object_expiry": 2, "options": ["--allow-other"]}


def fact(path: Path, name: str) -> str:
    return os.getxattr(path, f"fusefs.{name}").decode("utf-8", "surrogateescape")


def put(pipeline: Path, *keys: str) -> None:
    for key in keys:
        (pipeline / key).write_text(key)


def test_the_last_evicted_keys(pipeline: Path) -> None:
    put(pipeline, "k1", "k2", "k3")
    assert (fact(pipeline, "evicted"), fact(pipeline, "evictions")) == ("", "0")
    put(pipeline, "k4", "k5")
    assert (fact(pipeline, "evicted"), fact(pipeline, "evictions")) == ("k2\nk1\n", "2")
    (pipeline / "d").mkdir()
    put(pipeline, "d/a", "d/b", "d/c", "k6")
    assert fact(pipeline, "evicted") == "d/a\nk5\nk4\nk3\nk2\nk1\n"


def test_the_last_64_are_kept(pipeline: Path) -> None:
    keys = [f"k{number:03}" for number in range(103)]
    put(pipeline, *keys)
    assert fact(pipeline, "evictions") == "100"
    assert fact(pipeline, "evicted").splitlines() == keys[36:100][::-1]
    os.setxattr(pipeline, "fusefs.limit", b"1")
    assert fact(pipeline, "evicted").splitlines() == keys[38:102][::-1]


def test_names_of_any_bytes(pipeline: Path) -> None:
    names = [b"a\nb", b"c\\d", b"\xff"]
    for name in [*names, b"1", b"2", b"3"]:
        (Path(os.fsdecode(os.fsencode(pipeline) + b"/" + name))).touch()
    assert os.getxattr(pipeline, "fusefs.evicted") == b"\xff\nc\\\\d\na\\nb\n"


def test_what_came_back_was_not_taken(pipeline: Path) -> None:
    put(pipeline, "k1", "k2", "k3", "tmp")
    assert fact(pipeline, "evicted") == fact(pipeline / "tmp", "evicted") == "k1\n"
    os.replace(pipeline / "tmp", pipeline / "k3")
    assert fact(pipeline, "evicted") == ""
    assert listed(pipeline) == ["k1", "k2", "k3"]


def test_limit_and_count(pipeline: Path) -> None:
    put(pipeline, "a", "b")
    (pipeline / "d").mkdir()
    (pipeline / "l").symlink_to("a")
    assert [fact(pipeline, name) for name in ("limit", "limit_of", "objects")] == ["3", "store", "2"]
    assert fact(pipeline.parent, "limit") == "3"


def test_setting_the_limit(pipeline: Path) -> None:
    """It evicts at once, like `fusefs pipeline set-limit`; removing it gives the store's limit back."""
    put(pipeline, "k1", "k2", "k3")
    sh("setfattr -n fusefs.limit -v 2 .", pipeline)
    assert [fact(pipeline, name) for name in ("limit", "limit_of", "objects")] == ["2", "pipeline", "2"]
    wait_until(lambda: listed(pipeline) == ["k2", "k3"])
    assert fact(pipeline, "evicted") == "k1\n"
    sh("setfattr -x fusefs.limit .", pipeline)
    put(pipeline, "k4", "k5")
    assert listed(pipeline) == ["k3", "k4", "k5"]
    sh("setfattr -n fusefs.limit -v 0 .", pipeline)
    put(pipeline, "k6")
    assert listed(pipeline) == ["k3", "k4", "k5", "k6"]


@pytest.mark.parametrize("value", [b"", b"x", b"-1", b"1.5", b"4294967296", b"9" * 30, "٣".encode()])
def test_an_invalid_limit(pipeline: Path, value: bytes) -> None:
    with refused(errno.EINVAL):
        os.setxattr(pipeline, "fusefs.limit", value)
    assert fact(pipeline, "limit") == "3"


def test_the_limit_is_for_the_owner(shared: MountedStore, pipeline: Path) -> None:
    """Also where the permissions let everybody write into the pipeline."""
    shared.directory.chmod(0o755)
    pipeline.chmod(0o777)
    with Other() as other:
        other("os.setresuid(1000, 1000, 1000)")
        with refused(errno.EPERM):
            other("os.setxattr(path, 'fusefs.limit', b'1')", path=str(pipeline))
        with refused(errno.EPERM):
            other("os.removexattr(path, 'fusefs.limit')", path=str(pipeline))
        os.chown(pipeline, 1000, 1000)
        other("os.setxattr(path, 'fusefs.limit', b'1')", path=str(pipeline))
    assert fact(pipeline, "limit") == "1"


def test_keys_in_directories_of_others(shared: MountedStore, pipeline: Path) -> None:
    """What is evicted from there is told to who may search these directories, to root, and to the pipeline's owner."""
    shared.directory.chmod(0o755)
    pipeline.chmod(0o1777)
    os.chown(pipeline, 1000, 1000)
    with Other() as owner, Other() as alice, Other() as member, Other() as mallory:
        User(owner, 1000, 1000)
        User(alice, 1001, 1001, [2000])
        User(member, 1002, 1002, [2000])
        User(mallory, 1003, 1003)
        for directory, mode in (("open", 0o711), ("group", 0o710), ("group/private", 0o700), ("open/private", 0o700)):
            alice("os.mkdir(path); os.chmod(path, mode)", path=str(pipeline / directory), mode=mode)
        alice("os.chown(path, -1, 2000)", path=str(pipeline / "group"))
        keys = ["open/private/a", "group/private/b", "group/c", "open/d", "e"]
        for key in [*keys, "1", "2", "3"]:
            alice("open(path, 'w').close()", path=str(pipeline / key))

        def told(who: Other, path: Path = pipeline) -> list[str]:
            text: bytes = who("os.getxattr(path, 'fusefs.evicted')", path=str(path))
            return text.decode().splitlines()[::-1]

        assert told(owner) == told(alice) == fact(pipeline, "evicted").splitlines()[::-1] == keys
        assert told(member) == ["group/c", "open/d", "e"]
        assert told(mallory) == ["open/d", "e"]
        alice("os.chmod(path, 0o700)", path=str(pipeline / "open"))
        assert told(mallory) == ["e"]
        for key in ("group/f", "4", "5", "6"):  # the last of which is the one that f waits for
            alice("open(path, 'w').close()", path=str(pipeline / key))
        assert told(owner, pipeline / "6") == told(member, pipeline / "6") == ["group/f"]
        assert told(mallory, pipeline / "6") == []


@pytest.mark.parametrize("name", ["objects", "evicted", "order", "nonsense"])
def test_the_rest_cannot_be_set(pipeline: Path, name: str) -> None:
    with refused(errno.EPERM):
        os.setxattr(pipeline, f"fusefs.{name}", b"1")
    with refused(errno.EPERM):
        os.removexattr(pipeline, f"fusefs.{name}")


def test_there_is_no_other(shared: MountedStore, pipeline: Path) -> None:
    put(pipeline, "k")
    (pipeline / "d").mkdir()
    for path, name in [
        (pipeline, "nonsense"),
        (pipeline / "k", "limit"),
        (pipeline / "d", "limit"),
        (shared.path, "limit"),
    ]:
        with refused(errno.ENODATA):
            fact(path, name)
    with refused(errno.EPERM):
        os.setxattr(pipeline / "k", "fusefs.limit", b"1")


def test_the_order_of_puts(pipeline: Path) -> None:
    """Numbers that rise with every Put, whatever times are set: the lowest goes first."""
    put(pipeline, "a", "b", "c")
    os.utime(pipeline / "c", (1, 1))
    put(pipeline, "a")
    by_order = sorted("abc", key=lambda key: int(fact(pipeline / key, "order")))
    assert by_order == ["b", "c", "a"]
    put(pipeline, "d")
    assert listed(pipeline) == ["a", "c", "d"]


def test_runs(shared: MountedStore) -> None:
    """How many more runs can start before this one goes, and which have gone."""
    shared.cli("run", "start", "--pipeline", "told", "p1", exit_code=0)
    for name in ("t1", "t2"):
        (shared.run / name).mkdir()
    (shared.run / "t1" / "k").touch()
    assert [fact(shared.run / "t1", name) for name in ("objects", "starts_left", "protected")] == ["1", "0", "0"]
    assert fact(shared.run / "t2", "starts_left") == "1"
    assert int(fact(shared.run / "t1", "order")) < int(fact(shared.run / "t2", "order"))
    assert [fact(shared.run / "p1", name) for name in ("pipeline", "protected")] == ["told", "1"]
    for path, name in [(shared.run / "t1", "pipeline"), (shared.run / "p1", "starts_left")]:
        with refused(errno.ENODATA):
            fact(path, name)
    gone = int(fact(shared.run, "expirations"))
    (shared.run / "t3").mkdir()
    assert fact(shared.run, "expirations") == str(gone + 1)
    assert fact(shared.run, "expired").splitlines()[0] == "t1"
    assert fact(shared.run, "expiry") == "2"


def test_the_mount_stays_clean(pipeline: Path, tmp_path: Path) -> None:
    """Nothing of it is listed, so that ls, cp -a and tar see and copy the user's own only."""
    put(pipeline, "k1", "k2", "k3", "k4")
    os.setxattr(pipeline / "k4", "user.mine", b"1")
    for path in (pipeline, pipeline / "k3", pipeline.parent, pipeline.parent.parent):
        assert os.listxattr(path) == []
    assert sh("getfattr -d -m - k2 k3 k4 | grep -v '^$'", pipeline) == '# file: k4\nuser.mine="1"\n'
    assert sh("ls -A", pipeline) == "k2\nk3\nk4\n"
    sh(
        'cp -a . "$TO/copy" && mkdir "$TO/t" && tar --xattrs -cf - . | tar --xattrs -xf - -C "$TO/t"',
        pipeline,
        TO=tmp_path,
    )
    for copy in ("copy", "t"):
        assert listed(tmp_path / copy) == ["k2", "k3", "k4"]
        assert os.listxattr(tmp_path / copy / "k4") == ["user.mine"]


def test_it_outlives_the_daemon(shared: MountedStore, pipeline: Path) -> None:
    put(pipeline, "k1", "k2", "k3", "k4")
    shared.remount()
    assert fact(pipeline, "evicted") == "k1\n"


def test_the_log_and_the_command_tell_it_too(shared: MountedStore, pipeline: Path) -> None:
    put(pipeline, "k1", "k2", "k3", "k4")
    name = os.fsencode(f"evicted pipeline/{pipeline.name}/k1\n")
    wait_until(lambda: name in shared.log().encode())
    done = shared.cli("pipeline", "object", "put", pipeline.name, "k5=five", exit_code=0)
    assert b"evicted k2\n" in done.stderr
    wait_until(lambda: fact(pipeline, "evicted") == "k2\nk1\n")


def test_a_mount_tells_what_its_own_configuration_evicted(make_mount: MakeMount) -> None:
    before = make_mount()
    (before.pipeline / "app/d").mkdir(parents=True)
    put(before.pipeline / "app", "d/k1", "k2", "k3")
    before.unmount()
    store = make_mount(store=before.store, pipeline_object_limit=1)
    assert listed(store.pipeline / "app") == ["d", "k3"]
    told = [line.rpartition("evicted ")[2] for line in store.log().splitlines() if "evicted" in line]
    assert told == ["pipeline/app/d/k1", "pipeline/app/k2"]
