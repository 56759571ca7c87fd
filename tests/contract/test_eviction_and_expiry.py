"""Eviction and expiry."""

import errno
import os
import time
from pathlib import Path

import pytest

from tests.conftest import MakeMount
from tests.support.mounting import MountedStore
from tests.support.processes import Other, end, sh, start_python
from tests.support.renaming import EXCHANGE, renameat2
from tests.support.shared_mount import by_age, listed, refused
from tests.support.waiting import wait_until

pytestmark = pytest.mark.mount

SETTINGS = {"pipeline_object_limit": 3}


def _fill(directory: Path, *names: str) -> None:
    for name in names:
        (directory / name).write_text(name)


def test_the_main_job(make_mount: MakeMount) -> None:
    """With limit 3 the fourth Put evicts the first, also after a remount and for the command."""
    store = make_mount(pipeline_object_limit=3)
    script = "mkdir M/pipeline/p; for i in 1 2 3 4; do echo $i > M/pipeline/p/k$i; done; ls M/pipeline/p"
    assert sh(script.replace("M", "mount"), store.directory) == "k2\nk3\nk4\n"
    store.remount()
    assert listed(store.pipeline / "p") == ["k2", "k3", "k4"]
    found = store.cli("pipeline", "object", "list", "p", exit_code=0).stdout
    assert found.split() == [b"k2", b"k3", b"k4"]


def test_nobody_sees_one_too_many(pipeline: Path) -> None:
    """No reader ever sees limit+1 objects, and exactly as many of the oldest go as must."""
    _fill(pipeline, "a", "b", "c")
    watching = """
import os, sys, time
counts = set()
end = time.monotonic() + 3
while time.monotonic() < end and not os.path.exists(sys.argv[2]):
    counts.add(len(os.listdir(sys.argv[1])))
print(*sorted(counts))
"""
    writing = """
import os, sys
for number in range(150):
    path = f"{sys.argv[1]}/{sys.argv[2]}{number}"
    if number % 3 == 2:
        open(path + "x", "w").write("x")
        try:
            os.rename(path + "x", path)
        except FileNotFoundError:
            pass  # the other writer has put three objects since
    else:
        open(path, "w").write("x")
"""
    stop = pipeline.parent.parent.parent / "stop-watching"
    watchers = [start_python(watching, pipeline, stop) for _ in range(2)]
    end([start_python(writing, pipeline, letter) for letter in "vw"])
    stop.touch()
    assert set(" ".join(end(watchers)).split()) <= {"3"}
    stop.unlink()
    assert len(listed(pipeline)) == 3


def test_overwriting_evicts_nothing(pipeline: Path) -> None:
    """Exactly as many of the oldest go as must: an overwrite of what is there costs none."""
    _fill(pipeline, "a", "b", "c")
    for name in ("a", "c", "b", "b", "a"):
        _fill(pipeline, name)
        assert listed(pipeline) == ["a", "b", "c"]


def test_overwriting_makes_younger(pipeline: Path) -> None:
    """The oldest is the object written longest ago."""
    _fill(pipeline, "a", "b", "c", "a", "d")
    assert listed(pipeline) == ["a", "c", "d"]
    sh("echo more >> c; echo e > e", pipeline)
    assert listed(pipeline) == ["c", "d", "e"]
    with open(pipeline / "d", "r+b") as file:
        file.write(b"D")
    _fill(pipeline, "f")
    assert listed(pipeline) == ["d", "e", "f"]
    os.truncate(pipeline / "d", 1)
    _fill(pipeline, "g", "h")
    assert listed(pipeline) == ["d", "g", "h"]


def test_the_age_counts_from_the_close(pipeline: Path) -> None:
    """The oldest is the object written longest ago: a Put counts from when it is published."""
    fd = os.open(pipeline / "slow", os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"slow")
    _fill(pipeline, "a", "b", "c")
    os.close(fd)
    assert listed(pipeline) == ["b", "c", "slow"]
    assert by_age(pipeline) == ["b", "c", "slow"]


def test_ls_tr_is_the_order_of_eviction(pipeline: Path) -> None:
    """`ls -tr` is the order of eviction while nobody sets times by hand."""
    _fill(pipeline, "b", "c", "a")
    assert sh("ls -tr", pipeline).split() == ["b", "c", "a"]
    _fill(pipeline, "b")
    with open(pipeline / "c", "a") as file:
        file.write("x")
    assert sh("ls -tr", pipeline).split() == ["a", "b", "c"]
    for number, gone in enumerate(["a", "b", "c"]):
        assert sh("ls -tr", pipeline).split()[0] == gone
        _fill(pipeline, f"new{number}")
        assert gone not in listed(pipeline)


def test_reading_makes_no_younger(pipeline: Path) -> None:
    """Reading does not make an object younger."""
    _fill(pipeline, "a", "b", "c")
    sh("cat a a a > /dev/null; wc a; stat a", pipeline)
    _fill(pipeline, "d")
    assert listed(pipeline) == ["b", "c", "d"]


@pytest.mark.parametrize(
    "change", ["touch -d '2040-01-01' a", "touch a", "chmod 600 a", "mv a a2; mv a2 a", "touch -d 2001-01-01 c"]
)
def test_setting_times_changes_no_order(pipeline: Path, change: str) -> None:
    """Nor does setting its mtime (touch -d, cp -p, tar x): the order of Puts counts."""
    _fill(pipeline, "a", "b", "c")
    sh(change, pipeline)
    _fill(pipeline, "d")
    assert listed(pipeline) == ["b", "c", "d"]


def test_copies_with_old_times_are_young(pipeline: Path, tmp_path: Path) -> None:
    """Nor does setting its mtime (touch -d, cp -p, tar x): the order of Puts counts."""
    sh("for name in d e; do echo x > $name; touch -d 2001-01-01 $name; done; tar cf t.tar e", tmp_path)
    _fill(pipeline, "a", "b", "c")
    sh('cp -p "$there"/d .; tar xf "$there"/t.tar', pipeline, there=tmp_path)
    assert listed(pipeline) == ["c", "d", "e"]
    assert (pipeline / "d").stat().st_mtime == (tmp_path / "d").stat().st_mtime
    _fill(pipeline, "f", "g")
    assert listed(pipeline) == ["e", "f", "g"]


def test_never_its_own_victim(make_mount: MakeMount) -> None:
    """The object just put is never its own victim."""
    store = make_mount(pipeline_object_limit=1)
    directory = store.pipeline / "p"
    directory.mkdir()
    for number in range(5):
        (directory / f"k{number}").write_text("x")
        assert listed(directory) == [f"k{number}"]
    (directory / "d").mkdir()
    (directory / "d/k").write_text("x")
    assert (listed(directory), listed(directory / "d")) == (["d"], ["k"])
    (directory / "d/k").rename(directory / "up")
    assert (listed(directory), listed(directory / "d")) == (["d", "up"], [])


def test_limit_0(make_mount: MakeMount) -> None:
    """0 means no limit."""
    store = make_mount(pipeline_object_limit=0, run_object_expiry=0)
    sh("mkdir p; for i in $(seq 150); do echo $i > p/k$i; done", store.pipeline)
    assert len(listed(store.pipeline / "p")) == 150
    sh("for i in $(seq 60); do mkdir $i; done", store.run)
    assert len(listed(store.run)) == 60


def test_objects_in_directories_count(pipeline: Path) -> None:
    """The pipeline's limit counts its objects wherever they lie in it."""
    sh("mkdir -p x/y; echo 1 > x/y/1; echo 2 > x/2; echo 3 > 3; echo 4 > x/y/4", pipeline)
    assert sh("find . -type f | sort", pipeline).split() == ["./3", "./x/2", "./x/y/4"]


def test_pipelines_count_apart(pipeline: Path, other_pipeline: Path, run: Path) -> None:
    """At most `pipeline_object_limit` objects per pipeline; what is put elsewhere evicts nothing here."""
    _fill(pipeline, "a", "b", "c")
    _fill(other_pipeline, "a", "b", "c", "d")
    _fill(run, "a", "b", "c", "d", "e")
    assert listed(pipeline) == ["a", "b", "c"]
    assert listed(other_pipeline) == ["b", "c", "d"]
    assert listed(run) == ["a", "b", "c", "d", "e"]


# Renames


def test_a_rename_into_a_full_pipeline_evicts(pipeline: Path, other_pipeline: Path, run: Path) -> None:
    """The limit is enforced in the same transaction as the rename that would break it."""
    _fill(pipeline, "a", "b", "c")
    _fill(run, "d", "e")
    _fill(other_pipeline, "f")
    os.rename(run / "d", pipeline / "d")
    assert listed(pipeline) == ["b", "c", "d"]
    os.rename(run / "e", pipeline / "c")  # replaces one: no eviction
    assert listed(pipeline) == ["b", "c", "d"]
    os.rename(other_pipeline / "f", pipeline / "f")
    assert listed(pipeline) == ["c", "d", "f"]


def test_a_directory_renamed_into_a_full_pipeline(pipeline: Path, run: Path) -> None:
    """The limit is enforced in the same transaction as the rename: as many of the oldest go as must."""
    _fill(pipeline, "a", "b", "c")
    sh("mkdir d; echo 1 > d/1; echo 2 > d/2", run)
    os.rename(run / "d", pipeline / "d")
    assert sh("find . -type f | sort", pipeline).split() == ["./c", "./d/1", "./d/2"]


def test_an_exchange_with_a_full_pipeline(pipeline: Path, run: Path) -> None:
    """The limit is enforced in the same transaction as the rename: an exchange of one for one evicts none."""
    _fill(pipeline, "a", "b", "c")
    _fill(run, "r")
    renameat2(pipeline / "a", run / "r", EXCHANGE)
    assert listed(pipeline) == ["a", "b", "c"]
    assert ((pipeline / "a").read_text(), (run / "r").read_text()) == ("r", "a")


def test_a_rename_inside_evicts_nothing(pipeline: Path) -> None:
    """Exactly as many of the oldest go as must: a rename inside a pipeline costs none."""
    _fill(pipeline, "a", "b", "c")
    os.rename(pipeline / "a", pipeline / "z")
    assert listed(pipeline) == ["b", "c", "z"]
    os.rename(pipeline / "z", pipeline / "b")
    assert listed(pipeline) == ["b", "c"]


# Temporary files


@pytest.mark.parametrize(
    "script",
    [
        "sed -i s/x/y/ {}",
        "t=$(mktemp -p .); echo y > $t; mv $t {}",
        "echo y > {}.tmp; mv {}.tmp {}",
        "echo y > .{}.new; sync .{}.new; mv -f .{}.new {}",
        "cp {} {}~new; mv {}~new {}",
        "python3 -c \"import os; f = open('t', 'w'); f.write('y'); os.fsync(f); f.close(); os.replace('t', '{}')\"",
    ],
)
@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_writing_by_temporary_file_costs_no_other(pipeline: Path, script: str, name: str) -> None:
    """Writing a key by temporary file and rename (sed -i, rsync, editors) at the limit must cost no other object."""
    for each in ("a", "b", "c"):
        (pipeline / each).write_text("x\n")
    sh(script.replace("{}", name), pipeline)
    assert listed(pipeline) == ["a", "b", "c"]
    assert {(pipeline / each).read_text() for each in "abc" if each != name} == {"x\n"}


def test_a_removed_temporary_file_costs_no_other(pipeline: Path) -> None:
    """What the temporary name displaced comes back when the deletion of the temporary name frees the place again."""
    _fill(pipeline, "a", "b", "c")
    before = (pipeline / "a").stat()
    sh("echo x > tmp; ls > /dev/null; rm tmp", pipeline)
    assert listed(pipeline) == ["a", "b", "c"]
    assert (pipeline / "a").read_text() == "a"
    assert (pipeline / "a").stat().st_mtime_ns == before.st_mtime_ns
    _fill(pipeline, "d")
    assert listed(pipeline) == ["b", "c", "d"]


def test_what_is_displaced_is_gone_meanwhile(pipeline: Path) -> None:
    """What the temporary name displaced is evicted until it comes back: ls shows the limit and no more."""
    _fill(pipeline, "a", "b", "c")
    _fill(pipeline, "tmp")
    assert listed(pipeline) == ["b", "c", "tmp"]
    os.rename(pipeline / "tmp", pipeline / "b")
    assert listed(pipeline) == ["a", "b", "c"]
    assert (pipeline / "a").read_text() == "a"
    assert (pipeline / "b").read_text() == "tmp"


def test_a_put_in_between(pipeline: Path) -> None:
    """What was displaced comes back only while there is a place for it."""
    _fill(pipeline, "a", "b", "c")
    _fill(pipeline, "tmp")
    _fill(pipeline, "d")
    os.rename(pipeline / "tmp", pipeline / "c")
    found = listed(pipeline)
    assert len(found) <= 3
    assert {"c", "d"} <= set(found)


def test_a_returned_name_that_was_taken_meanwhile(pipeline: Path) -> None:
    """What was displaced comes back, but never over what was put under its name meanwhile."""
    _fill(pipeline, "a", "b", "c")
    _fill(pipeline, "tmp")
    (pipeline / "a").write_text("new a")
    (pipeline / "tmp").unlink()
    assert (pipeline / "a").read_text() == "new a"
    assert len(listed(pipeline)) <= 3


# Limits


def test_lowering_the_limit_evicts_at_once(make_mount: MakeMount) -> None:
    """Lowering the limit evicts at once; the limit is set per store, and can be set per pipeline."""
    store = make_mount(pipeline_object_limit=4)
    directory, other = store.pipeline / "p", store.pipeline / "o"
    for each in (directory, other):
        each.mkdir()
        _fill(each, "a", "b", "c", "d")
        sh("ls -l; cat a > /dev/null", each)
    with Other() as watcher:
        assert watcher("os.stat(path).st_size", path=directory / "a") == 1
        store.cli("pipeline", "set-limit", "p", "2", exit_code=0)
        _wait_gone(directory / "a", directory / "b")
        assert not watcher("os.path.exists(path)")
        assert listed(directory) == ["c", "d"]
    assert listed(other) == ["a", "b", "c", "d"]
    _fill(directory, "e")
    _fill(other, "e")
    assert (listed(directory), listed(other)) == (["d", "e"], ["b", "c", "d", "e"])
    store.cli("pipeline", "set-limit", "p", "0", exit_code=0)
    _fill(directory, *"fghijk")
    assert listed(directory) == list("defghijk")
    store.unmount()
    store.mount()
    assert listed(directory) == list("defghijk")


def _wait_gone(*paths: Path, seconds: float = 1.0) -> None:
    """A change beside the mount is visible within a second."""
    end_at = time.monotonic() + seconds
    while any(path.exists() for path in paths) and time.monotonic() < end_at:
        time.sleep(0.01)
    assert not any(path.exists() for path in paths)


def test_a_lower_limit_at_the_next_mount(make_mount: MakeMount) -> None:
    """Lowering the limit evicts at once: also that of the store."""
    store = make_mount(pipeline_object_limit=4)
    (store.pipeline / "p").mkdir()
    _fill(store.pipeline / "p", "a", "b", "c", "d")
    store.unmount()
    again = make_mount(store=store.store, pipeline_object_limit=2)
    assert listed(again.pipeline / "p") == ["c", "d"]


# What the kernel knows


def test_the_evicted_is_gone_from_the_cache(pipeline: Path) -> None:
    """What was evicted disappears from ls and stat at once, although the kernel had it cached."""
    with Other() as watcher:
        for number in range(40):
            _fill(pipeline, f"k{number}")
            assert watcher("os.stat(path).st_ino > 0", path=pipeline / f"k{number}")
            assert watcher("open(path).read()") == f"k{number}"
            if number >= 3:
                gone = pipeline / f"k{number - 3}"
                assert not watcher("os.path.exists(path)", path=gone)
                assert not gone.exists()
                assert not watcher("os.access(path, os.R_OK)")
                with refused(errno.ENOENT):
                    watcher("open(path)")
                assert watcher("len(os.listdir(os.path.dirname(path)))") == 3


def test_the_evicted_in_a_working_directory(pipeline: Path) -> None:
    """What was evicted disappears at once: also by a relative name, in a directory that is a working directory."""
    (pipeline / "d").mkdir()
    with Other() as watcher:
        watcher("os.chdir(path)", path=pipeline / "d")
        _fill(pipeline / "d", "a", "b", "c")
        assert watcher("[open(name).read() for name in 'abc']") == ["a", "b", "c"]
        _fill(pipeline, "d1")
        assert watcher("(os.path.exists('a'), sorted(os.listdir('.')))") == (False, ["b", "c"])


def test_space_is_reused(make_mount: MakeMount) -> None:
    """Its space is reused."""
    store = make_mount(pipeline_object_limit=2)
    directory = store.pipeline / "p"
    directory.mkdir()
    content = os.urandom(1 << 20)
    sizes = [0, 1, 2, 3]  # until three rounds in a row fit in what there is
    while sizes[-4] < sizes[-1]:
        assert len(sizes) < 100, "it grows and grows"
        for number in range(16):
            (directory / f"k{number}").write_bytes(content)
        time.sleep(0.2)  # what was evicted is removed in the background
        sizes.append(sum(path.stat().st_size for path in store.directory.glob("objects.db*")))


# Runs


def test_expiry_of_2(make_mount: MakeMount) -> None:
    """With an expiry of 2, the objects of run 5 go when run 7 starts."""
    store = make_mount(run_object_expiry=2)
    for number in (5, 6):
        (store.run / str(number)).mkdir()
        _fill(store.run / str(number), "k")
    with Other() as watcher:
        assert watcher("open(path).read()", path=store.run / "5/k") == "k"
        assert listed(store.run) == ["5", "6"]
        (store.run / "7").mkdir()
        assert not watcher("os.path.exists(path)")
        assert not watcher("os.path.exists(os.path.dirname(path))")
        assert watcher("sorted(os.listdir(directory))", directory=store.run) == ["6", "7"]
    assert sh("cat 6/k", store.run) == "k"


def test_the_expired_is_not_found_while_it_is_being_deleted(make_mount: MakeMount) -> None:
    """Names that the kernel has not cached are gone at once, and not kept by it for as long as their rows are there."""
    store = make_mount(run_object_expiry=1)
    (store.run / "1/d").mkdir(parents=True)
    _fill(store.run / "1/d", *(f"k{number}" for number in range(2000)))
    store.remount()
    with Other() as watcher:
        watcher("os.chdir(path)", path=store.run / "1/d")
        (store.run / "2").mkdir()
        assert watcher("[number for number in reversed(range(2000)) if os.path.exists(f'k{number}')]") == []


def test_the_expired_in_a_working_directory(make_mount: MakeMount) -> None:
    """What expired disappears from ls and stat although the kernel had it cached: within a moment to who is in it.

    Not at once there: a mkdir may not wait for the kernel to forget what lies below the directory that it holds locked.
    """
    store = make_mount(run_object_expiry=1)
    (store.run / "1/d").mkdir(parents=True)
    _fill(store.run / "1/d", "k")
    with Other() as watcher:
        watcher("os.chdir(path); open('k').read(); os.stat('k')", path=store.run / "1/d")
        (store.run / "2").mkdir()
        wait_until(lambda: not watcher("os.path.exists('k')"))
        with refused(errno.ENOENT, errno.ESTALE):
            watcher("open('k')")
        with refused(errno.ENOENT, errno.ESTALE):
            watcher("open('new', 'w').close()")
    assert listed(store.run) == ["2"]


def test_runs_of_a_pipeline_count_apart(make_mount: MakeMount) -> None:
    """A run is counted in the pipeline that it was started with, else among the runs with none."""
    store = make_mount(run_object_expiry=2)
    sh("mkdir p q", store.pipeline)
    for run, pipeline in (("p1", "p"), ("q1", "q"), ("p2", "p")):
        store.cli("run", "start", run, "--pipeline", pipeline, exit_code=0)
        store.cli("run", "finish", run, exit_code=0)
    (store.run / "n1").mkdir()
    (store.run / "n2").mkdir()
    assert listed(store.run) == ["n1", "n2", "p1", "p2", "q1"]
    store.cli("run", "start", "p3", "--pipeline", "p", exit_code=0)
    _wait_gone(store.run / "p1")
    assert listed(store.run) == ["n1", "n2", "p2", "p3", "q1"]
    (store.run / "n3").mkdir()
    assert listed(store.run) == ["n2", "n3", "p2", "p3", "q1"]


def test_a_started_run_is_protected(make_mount: MakeMount) -> None:
    """A run started with `run start` is not expired before `run finish`; one started by mkdir is not protected so."""
    store = make_mount(run_object_expiry=1)
    store.cli("run", "start", "job", exit_code=0)
    _fill(store.run / "job", "k")
    for number in range(3):
        (store.run / str(number)).mkdir()
    assert listed(store.run) == ["2", "job"]
    assert (store.run / "job/k").read_text() == "k"
    store.cli("run", "finish", "job", exit_code=0)
    (store.run / "3").mkdir()
    _wait_gone(store.run / "job", store.run / "2")
    assert listed(store.run) == ["3"]


def test_writers_in_an_expired_run(make_mount: MakeMount) -> None:
    """A Put into a run that expired meanwhile fails, and says so; it brings nothing back."""
    store = make_mount(run_object_expiry=1)
    (store.run / "1").mkdir()
    fd = os.open(store.run / "1/k", os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"late")
    (store.run / "2").mkdir()
    with refused(errno.ENOENT, errno.ESTALE, errno.EIO):
        os.fsync(fd)
    with refused(errno.ENOENT, errno.ESTALE, errno.EIO):
        os.close(fd)
    assert listed(store.run) == ["2"]


def test_rename_out_of_a_run_saves_it(make_mount: MakeMount) -> None:
    """The objects of a run go with it, but for what was moved into a pipeline."""
    store = make_mount(run_object_expiry=1)
    sh(
        "mkdir pipeline/app run/1; echo model > run/1/model; echo > run/1/x; mv run/1/model pipeline/app; mkdir run/2",
        store.path,
    )
    assert sh("cat pipeline/app/model; ls run", store.path) == "model\n2\n"


def test_evictions_are_told(make_mount: MakeMount) -> None:
    """What an eviction or expiry took is told: in the log, and on the CLI's put."""
    store = make_mount(pipeline_object_limit=1, run_object_expiry=1)
    sh("mkdir pipeline/p run/1; echo a > pipeline/p/first; echo b > pipeline/p/second; mkdir run/2", store.path)
    told = store.cli("pipeline", "object", "put", "p", "third=c", exit_code=0)
    assert b"second" in told.stdout + told.stderr
    log = store.log()
    assert "pipeline/p/first" in log
    assert "run/1" in log


def test_a_limited_store_beside_the_command(shared: MountedStore, pipeline: Path) -> None:
    """The limit holds for whoever puts, and both sides see the same."""
    _fill(pipeline, "a", "b", "c")
    sh("cat a b c", pipeline)
    shared.cli("pipeline", "object", "put", pipeline.name, "d=x", exit_code=0)
    _wait_gone(pipeline / "a")
    assert listed(pipeline) == ["b", "c", "d"]
    _fill(pipeline, "e")
    assert shared.cli("pipeline", "object", "list", pipeline.name, exit_code=0).stdout.split() == [b"c", b"d", b"e"]
