"""The requests of a kernel, in any order and with anything in them."""

import os
import stat
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pyfuse3
import trio
import trio.testing
from pyfuse3 import EntryAttributes, FileInfo

from engine.errors import StoreError
from engine.model import ScopeName
from engine.store import Store
from fusefs.handles import WriteHandle
from fusefs.session import _tell_kernel
from tests.fuzz.checking import Trouble, logged
from tests.fuzz.knowing import Knowing
from tests.fuzz.mounts import FakedMount, Fields, Listing, without_kernel
from tests.fuzz.source import Source
from tests.fuzz.stores import new_store
from tests.support.invariants import check_store

MOST = 60
"""Requests in one input."""
WORDS = (bytes(8), b"\x01" * 8, b"\xff" * 8, b"\xc0", b"\xe0\x04name")
SEEDS = tuple(bytes([kind, *middle]) * 8 for kind in range(0, 32, 3) for middle in ((0, 0, 0), (3, 1, 2, 3), (200, 9)))
_FLAGS = (
    *(os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC, os.O_WRONLY | os.O_APPEND),
    *(os.O_RDWR | os.O_CREAT | os.O_EXCL, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, os.O_RDONLY | os.O_CREAT, 3),
    *(
        os.O_RDWR | os.O_APPEND | os.O_TRUNC,
        os.O_RDONLY | os.O_TRUNC,
        os.O_DIRECTORY,
        os.O_PATH,
        os.O_TMPFILE,
        -1,
        2**31 - 1,
    ),
)
_MODES = (0o644, 0o755, 0o2755, 0o6777, 0, 0o7777, 0o100644, 0o177777, 0o120777, 0o060600, 0o010600, 2**32 - 1)
_XATTRS = (
    b"user.a",
    b"user.",
    b"fusefs.limit",
    b"fusefs.",
    b"fusefs.order",
    b"security.capability",
    b"system.posix_acl_access",
)
_UNITS = (1, -1, 10**9, -(10**9))
"""A time in nanoseconds, or in seconds, of which the kernel sends 64 bits, too."""
_LONGEST_READ = 1024 * 1024
"""What the kernel asks for at once, at the most."""


def run(data: bytes) -> None:
    """The first bytes say how the store and the mount are, then each request is one byte and what it needs."""
    source = Source(data)
    engine = source.pick(("sqlite", "sqlite", "sqlite", "memory"))
    settings = {"pipeline_object_limit": source.pick((2, 0, 50)), "run_object_expiry": source.pick((2, 0))}
    if source.flag() or engine == "memory":
        settings["max_object_size"] = source.pick((100_000, 1, 300_000))
    with logged("fusefs", "engine") as trouble, without_kernel(), new_store(engine=engine, **settings) as store:
        trio.run(_serve, source, store, trouble)
        check_store(store)


async def _serve(source: Source, store: Store, trouble: Trouble) -> None:
    with trio.fail_after(120):
        async with trio.open_nursery() as nursery:
            mount = FakedMount(store, nursery, trouble, source.pick((None, 0o022, 0o777)))
            nursery.start_soon(mount.state.kernel.run)
            store.database.adopt()
            store.sessions.ensure()
            kernel = Kernel(source, mount)
            for _ in range(MOST):
                if not source:
                    break
                await kernel.send()
            await mount.close(iter(sorted(kernel.handles)))
            nursery.cancel_scope.cancel()


class Kernel(Knowing):
    """Sends requests: about inodes and handles that it was told of mostly."""

    def __init__(self, source: Source, mount: FakedMount) -> None:
        super().__init__(source, mount)
        self._requests: tuple[Callable[[], Awaitable[object]], ...] = (
            *(self._make, self._make, self._create, self._create, self._create, self._lookup, self._open, self._open),
            *(
                self._write,
                self._write,
                self._write,
                self._read,
                self._release,
                self._release,
                self._flush,
                self._flush,
            ),
            *(
                self._fsync,
                self._rename,
                self._rename,
                self._remove,
                self._list,
                self._list,
                self._getattr,
                self._setattr,
            ),
            *(
                self._setattr,
                self._setxattr,
                self._xattrs,
                self._symlink,
                self._mknod,
                self._forget,
                self._others,
                self._pause,
            ),
        )

    async def send(self) -> None:
        """One request."""
        await self._source.pick(self._requests)()

    # Names

    async def _make(self) -> None:
        parent = self._source.pick((2, 3)) if self._source.flag() else self._directory()
        asked = self._operations.mkdir(parent, self._source.name(), self._source.pick(_MODES), self._context())
        self._learn(await self._mount.ask(asked))

    async def _lookup(self) -> None:
        asked = self._operations.lookup(self._directory(), self._source.name(), self._context())
        self._learn(await self._mount.ask(asked))

    async def _rename(self) -> None:
        old, new = (self._directory(), self._source.name()), (self._directory(), self._source.name())
        flags = self._source.pick((0, 0, 0, 1, 2, 3, 4, 2**31))
        await self._mount.ask(self._operations.rename(*old, *new, flags, self._context()))

    async def _remove(self) -> None:
        call = self._operations.rmdir if self._source.flag() else self._operations.unlink
        await self._mount.ask(call(self._directory(), self._source.name(), self._context()))

    async def _symlink(self) -> None:
        target = self._source.name()
        asked = self._operations.symlink(self._directory(), self._source.name(), target, self._context())
        entry = await self._mount.ask(asked)
        self._learn(entry)
        if entry is not None:
            assert await self._mount.ask(self._operations.readlink(entry.st_ino, self._context())) == target
        await self._mount.ask(self._operations.readlink(self._ino(), self._context()))

    async def _mknod(self) -> None:
        mode, device = self._source.pick(_MODES), self._source.number()
        asked = self._operations.mknod(self._directory(), self._source.name(), mode, device, self._context())
        entry = await self._mount.ask(asked)
        assert entry is None or stat.S_ISREG(mode)
        self._learn(entry)
        await self._mount.ask(
            self._operations.link(self._ino(), self._directory(), self._source.name(), self._context())
        )

    async def _list(self) -> None:
        number = await self._mount.ask(self._operations.opendir(self._ino(), self._context()))
        if number is None:
            return
        position = 0
        for _ in range(self._source.below(4)):
            listing = Listing(self._source.below(6) + 1)
            token = cast(pyfuse3.ReaddirToken, listing)
            await self._mount.ask(self._operations.readdir(number, position, token))
            names = [name for name, _, _ in listing.entries]
            assert len(names) == len(set(names))
            position = listing.entries[-1][2] if listing.entries and self._source.flag() else self._source.number()
        await self._mount.ask(self._operations.fsyncdir(number, self._source.flag()))
        await self._mount.ask(self._operations.releasedir(number))

    async def _forget(self) -> None:
        await self._operations.forget([(self._ino(), self._source.number()) for _ in range(self._source.below(4))])

    # Files

    async def _create(self) -> None:
        mode, flags = self._source.pick(_MODES), self._source.pick(_FLAGS)
        asked = self._operations.create(self._directory(), self._source.name(), mode, flags, self._context())
        answer: tuple[FileInfo, EntryAttributes] | None = await self._mount.ask(asked)
        if answer is not None:
            self.handles.append(answer[0].fh)
            self._learn(answer[1])

    async def _open(self) -> None:
        ino, flags, context = self._ino(), self._source.pick(_FLAGS), self._context()
        info = await self._mount.ask(self._operations.open(ino, flags, context))
        if info is None and (node := self._mount.state.store.tree.node(ino)) is not None and node.parent:
            # ESTALE: the kernel looks the name up once more.
            entry = await self._mount.ask(self._operations.lookup(node.parent, node.name, context))
            self._learn(entry)
            info = None if entry is None else await self._mount.ask(self._operations.open(entry.st_ino, flags, context))
        if info is not None:
            self.handles.append(info.fh)

    async def _write(self) -> None:
        number, sound = self._handle(WriteHandle)
        data = self._source.blob() * self._source.pick((1, 1, 1, 300, 4000))
        offset = min(self._source.number(), 2**63 - 1 - len(data))
        written = await self._mount.ask(self._operations.write(number, offset, data), sound=sound)
        assert written in (None, len(data))

    async def _read(self) -> None:
        number, sound = self._handle()
        size = min(self._source.number(), _LONGEST_READ)
        offset = min(self._source.number(), 2**63 - 1 - size)
        answer = await self._mount.ask(self._operations.read(number, offset, size), sound=sound)
        assert answer is None or len(answer) <= size

    async def _flush(self) -> None:
        number, sound = self._handle()
        await self._mount.ask(self._operations.flush(number), sound=sound)

    async def _fsync(self) -> None:
        number, sound = self._handle()
        await self._mount.ask(self._operations.fsync(number, self._source.flag()), sound=sound)

    async def _release(self) -> None:
        number, sound = self._handle()
        if number in self.handles:
            self.handles.remove(number)
        elif not sound:
            number = 10**9
        await self._mount.ask(self._operations.release(number), sound=sound)

    # Attributes

    async def _getattr(self) -> None:
        await self._mount.ask(self._operations.getattr(self._ino(), self._context()))
        await self._mount.ask(self._operations.statfs(self._context()))

    async def _setattr(self) -> None:
        entry = EntryAttributes()
        entry.st_mode, entry.st_uid, entry.st_gid = (self._source.number() & 2**32 - 1 for _ in range(3))
        entry.st_size = self._source.number()
        entry.st_atime_ns, entry.st_mtime_ns = (self._source.number() * self._source.pick(_UNITS) for _ in range(2))
        fields = cast(pyfuse3.SetattrFields, Fields(*(bool(self._source.byte() & 2**bit) for bit in range(7))))
        handle, sound = self._handle(WriteHandle) if self._source.flag() else (None, True)
        asked = self._operations.setattr(self._ino(), entry, fields, handle, self._context())
        await self._mount.ask(asked, sound=sound)

    def _xattr_name(self) -> bytes:
        return self._source.pick(_XATTRS) if self._source.flag() else b"user." + self._source.name()

    async def _setxattr(self) -> None:
        value = self._source.blob() * self._source.pick((1, 1, 257))
        await self._mount.ask(self._operations.setxattr(self._ino(), self._xattr_name(), value, self._context()))

    async def _xattrs(self) -> None:
        ino, context = self._ino(), self._context()
        for name in await self._mount.ask(self._operations.listxattr(ino, context)) or ():
            assert await self._mount.ask(self._operations.getxattr(ino, name, context)) is not None
        await self._mount.ask(self._operations.getxattr(ino, self._xattr_name(), context))
        await self._mount.ask(self._operations.removexattr(ino, self._xattr_name(), context))

    # What else goes on

    async def _others(self) -> None:
        """Another process changes the store, and this mount hears of it."""
        store, source = self._mount.state.store, self._source
        changes: tuple[Callable[[], Any], ...] = (
            lambda: store.put_object(ScopeName.pipeline(source.name()), source.name(), source.blob(), force=True),
            lambda: store.delete_object(ScopeName.pipeline(source.name()), source.name()),
            lambda: store.delete_pipeline(source.name(), True),
            lambda: store.set_limit(source.name(), source.below(3)),
            lambda: store.start_run(source.name()),
        )
        self._mount.state.settle()
        try:
            source.pick(changes)()
        except StoreError:
            return
        await _tell_kernel(self._mount.state)

    async def _pause(self) -> None:
        """Nobody asks for a moment: what is late is done."""
        self._mount.state.settle()
        self._mount.state.writers.drop_idle()
        self._mount.state.drop_gone()
        self._mount.state.store.upkeep.work()
        await trio.testing.wait_all_tasks_blocked()
