"""The machine: what several processes may do to a store, step by step, in any order."""

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from tests.model.comparing_machine import LARGE, ComparingMachine
from tests.model.copies import MODES
from tests.model.tree import Object, Path, Refused

# Few names, so that operations meet; a pipeline and a run have the same.
FIRST = (b"pipeline", b"p")
SCOPES = [FIRST, (b"pipeline", b"q"), (b"run", b"1"), (b"run", b"2"), (b"run", b"3")]
NAMES = [b"a", b"b", b"c", b"d"]
MAX_BYTES = 150_000
"""One large value fits, and not two of them."""
REOPENED_AT_MOST = 2
"""How often in one example: starting a daemon takes as long as a hundred other steps."""
PROCESSES_AT_MOST = 5

parts = st.sampled_from(NAMES)
# Most of the time the first pipeline, and not below a directory: a limit is met only where much is put.
paths = st.builds(
    lambda scope, depth, names: (*scope, *names[:depth]),
    st.sampled_from([*[FIRST] * 12, *SCOPES]),
    st.sampled_from([1, 1, 1, 1, 1, 1, 1, 2]),
    st.tuples(parts, parts),
)
sizes = st.sampled_from(["small", "small", "small", "empty", "large"])
limits = st.sampled_from([2, 1, 3, 0])
who = st.integers(0, 3)
"""Which of the processes that live."""
which = st.integers(0, 7)
"""Which of the descriptors that are open."""

runs = st.sampled_from([b"1", b"2", b"3", b"4"])
pipelines = st.sampled_from([b"p", b"p", b"p", b"q"])
directories = st.one_of(
    st.tuples(st.sampled_from(["mkdir", "rmdir", "symlink"]), paths),
    st.tuples(st.sampled_from(["mkdir", "rmdir"]), st.sampled_from(SCOPES[1:])),
)
set_limits = st.tuples(st.just("set_limit"), pipelines, st.one_of(limits, st.none()))
commands = st.one_of(
    set_limits,
    set_limits,
    st.tuples(st.just("set_note"), paths, st.sampled_from([b"x", b"y"])),
    st.one_of(
        st.tuples(st.just("start_run"), runs, st.sampled_from([None, b"p"])), st.tuples(st.just("finish_run"), runs)
    ),
)


class StoreMachine(ComparingMachine):
    """What may happen to a store. A step that is not possible at the moment does nothing."""

    @initialize(names=st.lists(parts, max_size=3, unique=True))
    def begin(self, names: list[bytes]) -> None:
        for _ in range(2):
            self.start_process()
        for path in SCOPES[:3]:
            self.both("mkdir", "A", path)
        if len(names) % 2:
            self.both("set_max_bytes", FIRST[1], MAX_BYTES)
        for name in names:
            self.write_whole("A", (*FIRST, name), "w", "small")

    def process(self, who: int) -> str:
        return sorted(self.model.processes)[who % len(self.model.processes)]

    def descriptor(self, which: int) -> int:
        return list(self.model.descriptors)[which % len(self.model.descriptors)]

    def is_writable(self, fd: int) -> bool:
        return not self.model.descriptors[fd].handle.mode.read_only

    def is_clear(self, process: str, *paths: Path) -> bool:
        return not any(self.model.is_unclear(process, path) for path in paths)

    def write_whole(self, process: str, path: Path, mode: str, size: str) -> None:
        """Open, write and close, as most programs do."""
        fd = next(self.numbers)
        if self.is_clear(process, path) and self.both("open", fd, process, path, mode):
            self.write_to(fd, 0, size)
            self.both("close", fd)

    def write_to(self, fd: int, offset: int, size: str) -> None:
        data = self.value(size)
        if data and self.model.descriptors[fd].handle.mode.append:
            self.both("append", fd, data)
        elif data:
            self.both("write", fd, offset, data)

    # Files

    @rule(who=who, path=paths, mode=st.sampled_from(sorted(MODES)))
    def open(self, who: int, path: Path, mode: str) -> None:
        process = self.process(who)
        if self.is_clear(process, path):
            self.both("open", next(self.numbers), process, path, mode)

    @rule(who=who, name=parts, mode=st.sampled_from(["w", "a", "r+", "c", "x", "r"]), size=sizes)
    def open_and_write(self, who: int, name: bytes, mode: str, size: str) -> None:
        process, path, fd = self.process(who), (*FIRST, name), next(self.numbers)
        if self.is_clear(process, path) and self.both("open", fd, process, path, mode) and self.is_writable(fd):
            self.write_to(fd, 0, size)

    @rule(who=who, name=parts, mode=st.sampled_from(["w", "w", "a", "x", "c"]), size=sizes)
    def put(self, who: int, name: bytes, mode: str, size: str) -> None:
        self.write_whole(self.process(who), (*FIRST, name), mode, size)

    @rule(who=who, name=parts, temporary=parts, mode=st.sampled_from(["w", "x"]), early=st.booleans())
    def replace(self, who: int, name: bytes, temporary: bytes, mode: str, early: bool) -> None:
        """By a temporary name and a rename, before the close or after it."""
        process, fd = self.process(who), next(self.numbers)
        path, target = (*FIRST, temporary), (*FIRST, name)
        if self.is_clear(process, path, target) and self.both("open", fd, process, path, mode):
            self.write_to(fd, 0, "small")
            if early and self.is_clear(process, path, target):
                self.both("move", process, path, target, True)
            self.both("close", fd)
            if not early and self.is_clear(process, path, target):
                self.both("move", process, path, target, True)

    @precondition(lambda self: self.model.descriptors)
    @rule(which=which, offset=st.sampled_from([0, 1, 5, LARGE]), size=sizes)
    def write(self, which: int, offset: int, size: str) -> None:
        fd = self.descriptor(which)
        if self.is_writable(fd):
            self.write_to(fd, offset, size)

    @precondition(lambda self: self.model.descriptors)
    @rule(which=which, size=st.sampled_from([0, 1, 5, LARGE]))
    def truncate(self, which: int, size: int) -> None:
        fd = self.descriptor(which)
        if self.is_writable(fd):
            self.both("truncate", fd, size)

    @precondition(lambda self: self.model.descriptors)
    @rule(which=which)
    def fsync(self, which: int) -> None:
        self.both("fsync", self.descriptor(which))

    @precondition(lambda self: self.model.descriptors)
    @rule(which=which)
    def duplicate(self, which: int) -> None:
        self.both("duplicate", self.descriptor(which), next(self.numbers))

    @precondition(lambda self: self.model.descriptors)
    @rule(which=which)
    def close(self, which: int) -> None:
        self.both("close", self.descriptor(which))

    @precondition(lambda self: len(self.model.descriptors) > 3)
    @rule(which=which)
    def close_one_of_many(self, which: int) -> None:
        self.both("close", self.descriptor(which))

    # Names

    @rule(who=who, path=paths)
    def unlink(self, who: int, path: Path) -> None:
        if self.is_clear(self.process(who), path):
            self.both("unlink", self.process(who), path)

    @rule(who=who, name=parts, other=parts)
    def rename(self, who: int, name: bytes, other: bytes) -> None:
        self.move(who, (*FIRST, name), (*FIRST, other), True)

    @rule(who=who, old=paths, new=paths, replace=st.sampled_from([True, True, False]))
    def move(self, who: int, old: Path, new: Path, replace: bool) -> None:
        if self.is_clear(self.process(who), old, new):
            self.both("move", self.process(who), old, new, replace)

    @rule(who=who, one=paths, other=paths)
    def swap(self, who: int, one: Path, other: Path) -> None:
        if self.is_clear(self.process(who), one, other):
            self.both("swap", self.process(who), one, other)

    @rule(who=who, what=directories)
    def directory(self, who: int, what: tuple[str, Path]) -> None:
        if self.is_clear(self.process(who), what[1]):
            self.both(what[0], self.process(who), what[1])

    # Limits, and the command beside

    @rule(what=commands)
    def command(self, what: tuple[Any, ...]) -> None:
        if self._is_possible(*what):
            self.both(*what)

    def _is_possible(self, what: str, name: Any, *_: object) -> bool:
        """These are not about who asks for what is not there."""
        if what == "set_note":
            try:
                return isinstance(self.model.find(name), Object)
            except Refused:
                return False
        return what == "start_run" or name in self.model.scopes(b"pipeline" if what == "set_limit" else b"run")

    @rule(path=paths, size=sizes, force=st.booleans())
    def put_beside(self, path: Path, size: str, force: bool) -> None:
        try:
            self.model.place(path)
        except Refused:
            return
        self.both("put_beside", path, self.value(size), force)

    @precondition(lambda self: not self.real.has_processes)
    @rule(what=st.sampled_from(["tidy up", "tidy up", "make room", "delete", "delete all"]))
    def behind_the_scenes(self, what: str) -> None:
        """Tidying shows nowhere; a disk that is nearly full takes what might have come back."""
        if what.startswith("delete"):
            self.both("delete_pipeline", b"q", what == "delete all")
            return
        self.real.tidy_up(what == "make room")
        for model in self.models if what == "make room" else []:
            model.displaced.clear()
            model.moved.clear()

    # Processes and daemons

    @precondition(lambda self: len(self.model.processes) < 2)
    @rule()
    def start(self) -> None:
        self.start_process()

    @precondition(lambda self: self.real.has_processes and len(self.model.processes) < PROCESSES_AT_MOST)
    @rule(who=who)
    def fork(self, who: int) -> None:
        fds = self.model.of_process(self.process(who))
        if fds:
            child = next(self.names)
            self.both("fork", self.process(who), child, {fd: next(self.numbers) for fd in fds})

    @precondition(lambda self: len(self.model.processes) > 1)
    @rule(who=who, killed=st.booleans())
    def leave(self, who: int, killed: bool) -> None:
        """A process exits, or is killed."""
        process = self.process(who)
        for fd in self.model.of_process(process) if not self.real.has_processes else []:
            self.both("close", fd)
        self.both("kill" if killed and self.real.has_processes else "end", process)

    @precondition(lambda self: self.real.can_reopen and self.reopened < REOPENED_AT_MOST)
    @rule(crash=st.booleans(), limit=limits, expiry=st.sampled_from([2, 1, 0]))
    def reopen(self, crash: bool, limit: int, expiry: int) -> None:
        """The store is unmounted, or the daemon killed; and mounted again."""
        self.reopened += 1
        if not crash:
            for fd in list(self.model.descriptors):
                self.both("close", fd)
            # What unmounting cuts off is published by the next daemon: by then, other limits hold.
            self.all_is_as_expected()
        self.both("crash" if crash else "remount", limit, expiry)
