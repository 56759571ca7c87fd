"""The volumes: made, mounted, unmounted and removed. Knows nothing of HTTP or JSON.

A volume is a name for a pipeline or a run, with options. All its methods are for the event loop; one change happens at
a time, and whatever may block does so in a thread and with a deadline. What a change did is on the disk before it
returns. One that fails, or is cancelled, can be asked for again: every step finds out what is there already.
"""

import logging
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from threading import Event
from typing import Protocol

import msgspec
import trio

from fusefs.dockerplugin import binds, scopes
from fusefs.dockerplugin.blocking import in_thread
from fusefs.dockerplugin.described import Described
from fusefs.dockerplugin.errors import NoSuchVolumeError, VolumeError
from fusefs.dockerplugin.options import Options, parse
from fusefs.dockerplugin.state import StateFile, Volume

REMOVE_SECONDS = 40.0
"""How long deleting a pipeline or run with all its objects may take."""
_DELETIONS = _LIMITS = 10
"""How many threads delete, or set a limit: each waits for as long as somebody has a directory there locked."""

log = logging.getLogger(__name__)


class TheMount(Protocol):
    """The mount that the volumes are in."""

    path: str

    async def ensure(self) -> None:
        """Return when it lives. Raises VolumeError."""


class Volumes:
    """The volumes of one plugin."""

    def __init__(self, mount: TheMount, views: str, file: StateFile) -> None:
        """`views` is the directory for read-only volumes. Raises VolumeError for a file that is damaged."""
        self._mount = mount
        self._views = views
        self._file = file
        self._volumes = file.load()
        """What is on the disk. Replaced and never changed, so that reading it needs no lock."""
        self._lock = trio.Lock()
        """Held by a change from its first look to its last write, and by nobody else."""
        self._deleting: set[str] = set()
        """The directories whose objects a thread deletes, one also that was given up and still waits for the mount."""
        self._deletions = trio.CapacityLimiter(_DELETIONS)
        self._limits = trio.CapacityLimiter(_LIMITS)

    def in_use(self) -> list[str]:
        """Return the names of the volumes that somebody has mounted."""
        return sorted(name for name, volume in self._volumes.items() if volume.mounts)

    # Changes

    async def create(self, name: str, given: Mapping[str, str]) -> None:
        """Make a volume, and its pipeline or run when that is missing. Raises VolumeError."""
        options = parse(name, given)
        async with self._lock:
            known = self._volumes.get(name)
            if known is not None and known.options != options:
                raise VolumeError(f"the volume {name} exists with other options: {known.options}")
            await self._mount.ensure()
            made = await self._make(options, set_limit=known is None)
            if known is not None:
                return
            created = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
            try:
                await self._save({**self._volumes, name: Volume(options=options, created=created)})
            except VolumeError:
                if made:
                    await in_thread("taking it back", partial(scopes.undo, self._mount.path, options))
                raise
        log.info("volume %s: created, %s", name, options)

    async def mount(self, name: str, by: str) -> str:
        """Note that `by` has the volume mounted, and return the directory to show it. Raises VolumeError."""
        async with self._lock:
            volume = self._known(name)
            await self._mount.ensure()
            # It may have gone: a run expires, and anybody who may can remove a pipeline.
            await self._make(volume.options, set_limit=False)
            path = self._path(name, volume.options)
            if volume.options.read_only:
                source = scopes.path_of(self._mount.path, volume.options)
                await in_thread(f"binding {path}", partial(binds.bind, source, path))
            if by not in volume.mounts:
                await self._change(name, volume, volume.mounts | {by})
        log.info("volume %s: mounted by %s", name, by)
        return path

    async def unmount(self, name: str, by: str) -> None:
        """Note that `by` does not need the volume any more. Raises VolumeError."""
        async with self._lock:
            volume = self._known(name)
            left = volume.mounts - {by}
            # First what is remembered: a view that is left behind harms nobody and goes the next time.
            if by in volume.mounts:
                await self._change(name, volume, left)
            if not left:
                await self._unbind(name, volume.options)
        log.info("volume %s: unmounted by %s", name, by)

    async def remove(self, name: str) -> None:
        """Forget a volume, and delete its objects if that is among its options. Raises VolumeError."""
        async with self._lock:
            options = self._known(name).options
            if self._volumes[name].mounts:
                raise VolumeError(f"the volume {name} is in use: mounted by {len(self._volumes[name].mounts)}")
            await self._unbind(name, options)
            if options.remove == "objects":
                await self._delete_objects(name, options)
            await self._save({other: volume for other, volume in self._volumes.items() if other != name})
        log.info("volume %s: removed, %s", name, options)

    # Questions

    async def path(self, name: str) -> str:
        """Return where the volume is mounted, nothing when it is not. Raises VolumeError."""
        return self._describe(name, self._known(name)).mountpoint

    async def get(self, name: str) -> Described:
        """Describe a volume. Raises VolumeError."""
        return self._describe(name, self._known(name))

    async def list(self) -> list[Described]:
        """Describe all volumes, by name."""
        return [self._describe(name, volume) for name, volume in sorted(self._volumes.items())]

    # How

    def _known(self, name: str) -> Volume:
        volume = self._volumes.get(name)
        if volume is None:
            raise NoSuchVolumeError(f"no such volume: {name}")
        return volume

    def _path(self, name: str, options: Options) -> str:
        return os.path.join(self._views, name) if options.read_only else scopes.path_of(self._mount.path, options)

    def _describe(self, name: str, volume: Volume) -> Described:
        options = volume.options
        status: dict[str, str | int | bool] = {options.kind: options.scope, "read-only": options.read_only}
        if options.limit is not None:
            status["limit"] = options.limit
        path = self._path(name, options) if volume.mounts else ""
        return Described(name=name, mountpoint=path, created_at=volume.created, status=status)

    async def _make(self, options: Options, *, set_limit: bool) -> bool:
        self._check_not_deleting(options)
        what = f"making {options.kind} {options.scope}"
        threads = self._limits if set_limit and options.limit is not None else None
        call = partial(scopes.make, self._mount.path, options, set_limit=set_limit)
        return await in_thread(what, call, threads=threads)

    async def _unbind(self, name: str, options: Options) -> None:
        if options.read_only:
            path = self._path(name, options)
            await in_thread(f"unmounting {path}", partial(binds.unbind, path))

    async def _delete_objects(self, name: str, options: Options) -> None:
        for other, volume in self._volumes.items():
            if volume.mounts and (volume.options.kind, volume.options.scope) == (options.kind, options.scope):
                raise VolumeError(f"{options.kind} {options.scope} is in use by the volume {other}")
        await self._mount.ensure()
        self._check_not_deleting(options)
        stop = Event()
        try:
            what = f"deleting the objects of the volume {name}"
            await in_thread(what, partial(self._delete, options, stop), REMOVE_SECONDS, self._deletions)
        finally:
            stop.set()  # given up, or cancelled: from now on somebody may put something there

    def _delete(self, options: Options, stop: Event) -> None:
        path = scopes.path_of(self._mount.path, options)
        self._deleting.add(path)
        try:
            scopes.remove(self._mount.path, options, stop)
        finally:
            self._deleting.discard(path)

    def _check_not_deleting(self, options: Options) -> None:
        if scopes.path_of(self._mount.path, options) in self._deleting:
            raise VolumeError(f"{options.kind} {options.scope} is still being removed: try again")

    async def _change(self, name: str, volume: Volume, mounts: frozenset[str]) -> None:
        await self._save({**self._volumes, name: msgspec.structs.replace(volume, mounts=mounts)})

    async def _save(self, volumes: dict[str, Volume]) -> None:
        ticket = self._file.ticket()
        try:
            await in_thread(f"writing {self._file.path}", partial(self._file.save, volumes, ticket))
        except VolumeError:
            # What a thread writes that was given up, nobody would know of before the next start.
            if self._file.withdraw(ticket):
                raise
        except trio.Cancelled:
            if not self._file.withdraw(ticket):
                self._volumes = volumes
            raise
        self._volumes = volumes
