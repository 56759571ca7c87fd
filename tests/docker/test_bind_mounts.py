"""A mount of this machine, bound into containers that know nothing of it."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import MakeMount
from tests.support import dockerimages
from tests.support.containers import UNPRIVILEGED, Container, Containers
from tests.support.dockerengine import Engine
from tests.support.jobs import Job, check
from tests.support.mounting import MountedStore
from tests.support.waiting import wait_until

CONTAINERS = 20
APPENDS = 5
REMAPPED = 300000
"""The first user id of this machine that stands for a container's root, where an engine remaps them."""


@pytest.fixture
def store(make_mount: MakeMount, docker_engine: Engine) -> MountedStore:
    """A mount in a directory in which mounts propagate."""
    mounted = make_mount(options=["--allow-other", "--umask", "000"], within=docker_engine.shared)
    mounted.directory.chmod(0o755)
    (mounted.pipeline / "app").mkdir()
    return mounted


def mount_in(store: MountedStore) -> list[str]:
    """The mount itself as /store: enough for a container that does not outlive the daemon."""
    return ["--volume", f"{store.path}:/store"]


def above_in(store: MountedStore) -> list[str]:
    """The directory above the mount as /shared: a container sees the mount of the next daemon there, too."""
    return ["--volume", f"{store.directory}:/shared:rslave"]


def test_what_one_container_writes_another_reads(store: MountedStore, containers: Containers) -> None:
    containers.sh("echo 1.4.2 >/store/pipeline/app/version", *mount_in(store))
    containers.sh("mkdir /store/run/7; tar -cf /store/run/7/bin.tar -C /bin busybox", *mount_in(store), *UNPRIVILEGED)
    read = "cat /store/pipeline/app/version; tar -tf /store/run/7/bin.tar"
    assert containers.sh(read, *above_in(store), *mount_in(store)) == "1.4.2\nbusybox\n"
    assert (store.pipeline / "app" / "version").read_text() == "1.4.2\n"


def test_many_containers_append_to_one_key_at_once(store: MountedStore, containers: Containers) -> None:
    append = (
        "while [ ! -e /store/pipeline/app/go ]; do sleep 0.1; done;"
        f" i=0; while [ $i -lt {APPENDS} ]; do echo $(hostname) $i >>/store/pipeline/app/log; i=$((i + 1)); done"
    )
    started = [containers.start_sh(append, *mount_in(store), user=str(1000 + n)) for n in range(CONTAINERS)]
    (store.pipeline / "app" / "go").touch()
    for container in started:
        container.end()
    lines = (store.pipeline / "app" / "log").read_text().splitlines()
    hosts = [container.name[:12] for container in started]  # as the engine names them
    assert sorted(lines) == sorted(f"{host} {i}" for host in hosts for i in range(APPENDS))


def write_slowly(store: MountedStore, containers: Containers, user: str) -> Container:
    """A container in the middle of replacing one value and making another."""
    job = containers.start_sh(
        "cd /store/pipeline/app; exec 3>old 4>new; echo half >&3; echo half >&4; echo written; sleep 60",
        *mount_in(store),
        user=user,
    )
    wait_until(lambda: job.output() == "written\n")
    return job


@pytest.mark.parametrize("user", ["0", "1001"])
def test_docker_kill_in_mid_write_publishes_nothing(store: MountedStore, containers: Containers, user: str) -> None:
    key = store.pipeline / "app" / "old"
    key.write_text("whole\n")
    key.chmod(0o666)
    write_slowly(store, containers, user).docker("kill")
    wait_until(lambda: (store.pipeline / "app" / "after").write_text("x") == 1)
    assert sorted(path.name for path in key.parent.iterdir()) == ["after", "old"]
    assert key.read_text() == "whole\n"


OUT_OF_MEMORY = "f = open('/store/pipeline/app/k', 'w'); f.write('half'); f.flush(); x = b'x' * 1_000_000_000"


def test_a_writer_that_runs_out_of_memory_publishes_nothing(
    store: MountedStore, containers: Containers, docker_image: str
) -> None:
    """The kernel kills it, in a container with a limit as anywhere."""
    key = store.pipeline / "app" / "k"
    key.write_text("whole")
    limit = ("--memory", "64m", "--memory-swap", "64m", "--entrypoint", "python3", *mount_in(store))
    job = containers.start("-c", OUT_OF_MEMORY, options=limit, image=docker_image)
    assert job.wait() == 137
    assert job.inspect(".State.OOMKilled") is True
    assert key.read_text() == "whole"


def test_users_of_all_kinds_share_what_they_make(store: MountedStore, containers: Containers) -> None:
    users = ["0", "1000", *map(str, random.Random(1).sample(range(2000, 2**31), 2))]
    for user in users:
        make = f"umask 077; mkdir /store/run/{user}; echo {user} >>/store/pipeline/app/log; echo 1 >/store/run/{user}/k"
        containers.sh(make, *mount_in(store), *UNPRIVILEGED, user=user)
    for user, other in zip(users, users[1:] + users[:1], strict=True):
        change = f"echo {user} >>/store/run/{other}/k; rm /store/run/{other}/k; echo {user} >/store/run/{other}/mine"
        containers.sh(change, *mount_in(store), *UNPRIVILEGED, user=user)
    assert (store.pipeline / "app" / "log").read_text().split() == users
    owners = {path.stat().st_uid for path in store.run.glob("*/mine")}
    assert owners == set(map(int, users))


SHARING = {
    "by the umask of the jobs": (["--allow-other"], "umask 002"),
    "by that of the mount": (["--umask", "002"], ""),
}


@pytest.mark.parametrize("how", SHARING)
def test_users_with_a_group_in_common(
    make_mount: MakeMount, docker_engine: Engine, containers: Containers, how: str
) -> None:
    """A pipeline with the group and the mode 2775."""
    options, first = SHARING[how]
    store = make_mount(options=["--allow-other", *options], within=docker_engine.shared)
    store.directory.chmod(0o755)
    app = store.pipeline / "app"
    app.mkdir()
    os.chown(app, 0, 5000)
    app.chmod(0o2775)
    group = ("--group-add", "5000", *mount_in(store), *UNPRIVILEGED)
    containers.sh(f"{first}\ncd /store/pipeline/app; echo 1 >k; mkdir d; echo 1 >d/k", *group, user="1001:1001")
    containers.sh(f"{first}\ncd /store/pipeline/app; echo 2 >>k; echo 2 >d/k; mv d/k d/l", *group, user="1002:1002")
    assert ((app / "k").read_text(), (app / "d" / "l").read_text()) == ("1\n2\n", "2\n")
    stranger = containers.start_sh("echo 3 >>/store/pipeline/app/k", *mount_in(store), user="1003:1003")
    assert stranger.wait() != 0
    assert "Permission denied" in stranger.errors()


def test_one_user_alone(make_mount: MakeMount, docker_engine: Engine, containers: Containers) -> None:
    """A pipeline that belongs to the user: others may read there, and not write."""
    store = make_mount(options=["--allow-other"], within=docker_engine.shared)
    store.directory.chmod(0o755)
    app = store.pipeline / "app"
    app.mkdir()
    os.chown(app, 1001, 1001)
    containers.sh("echo 1 >/store/pipeline/app/k", *mount_in(store), *UNPRIVILEGED, user="1001:1001")
    assert containers.sh("cat /store/pipeline/app/k", *mount_in(store), user="1002:1002") == "1\n"
    stranger = containers.start_sh("echo 2 >/store/pipeline/app/new", *mount_in(store), user="1002:1002")
    assert stranger.wait() != 0


def test_a_job_goes_on_after_a_kill_of_the_daemon(
    store: MountedStore, containers: Containers, docker_image: str
) -> None:
    job = Job(containers, "/shared/mount", docker_image, *above_in(store))
    store.kill()
    wait_until(lambda: "ENOTCONN" in job.container.output())
    store.mount()
    check(job.report(), (store.pipeline / "app" / "log").read_text())


def test_bound_directly_a_container_does_not_come_back(store: MountedStore, containers: Containers) -> None:
    """Why the directory above is bound."""
    job = containers.start_sh("sleep 60", *mount_in(store), *above_in(store))
    store.kill()
    store.mount()
    assert job.execute("ls /shared/mount").split() == ["pipeline", "run"]
    with pytest.raises(AssertionError, match="not connected"):
        job.execute("ls /store")


@pytest.fixture
def remapping(tmp_path: Path) -> Iterator[Containers]:
    """Containers of an engine that maps their users to others of this machine."""
    (tmp_path / "ids").write_text(f"nobody:{REMAPPED}:65536\n")
    # That engine alone sees this table: the one of the machine is not changed.
    prepare = f"mount --bind {tmp_path}/ids /etc/subuid; mount --bind {tmp_path}/ids /etc/subgid"
    engine = Engine(["--userns-remap", "nobody:nogroup"], prepare)
    try:
        dockerimages.import_busybox(engine)
        yield Containers(engine, dockerimages.BUSYBOX)
    finally:
        engine.stop()


@pytest.mark.docker
def test_an_engine_that_remaps_users(store: MountedStore, remapping: Containers) -> None:
    remapping.sh("echo 1 >/shared/mount/pipeline/app/k", *above_in(store))
    remapping.sh("echo 2 >>/store/pipeline/app/k; mkdir /store/run/1", *mount_in(store), user="5")
    assert (store.pipeline / "app" / "k").read_text() == "1\n2\n"
    assert (store.pipeline / "app" / "k").stat().st_uid == REMAPPED
    assert (store.run / "1").stat().st_uid == REMAPPED + 5
    assert remapping.sh("stat -c %u /store/pipeline/app/k /store/run/1", *mount_in(store)) == "0\n5\n"
