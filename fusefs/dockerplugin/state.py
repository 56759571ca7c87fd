"""What the plugin remembers: its volumes, and who has them mounted, in one JSON file.

The file is replaced as a whole and is on the disk before the engine is answered. One that cannot be read is never
replaced: the volumes of a machine are not forgotten because of a damaged byte.
"""

import contextlib
import os
import tempfile
import threading
from pathlib import Path

import msgspec

from engine import disk
from fusefs.dockerplugin.errors import VolumeError
from fusefs.dockerplugin.options import Options, check_name

VERSION = 1
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Volume(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """One volume."""

    options: Options
    created: str
    """When, in RFC 3339."""
    mounts: frozenset[str] = frozenset()
    """The engine's ids of those who have it mounted: one for each container."""


class State(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All of the file."""

    version: int
    boot: str
    """The boot of the kernel in which the ids of `Volume.mounts` were given: they mean nothing in another."""
    volumes: dict[str, Volume]


class _Version(msgspec.Struct):
    version: int


def boot_id() -> str:
    """Return what the kernel calls this boot."""
    return _BOOT_ID.read_text("ascii").strip()


class StateFile:
    """The file. `load` once, then `save`, which may be called from any thread."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._saving = threading.Lock()
        self._asked = 0
        """Counts calls of `save`, and belongs to the event loop."""
        self._deciding = threading.Lock()
        """Protects what follows, and is never held for long."""
        self._saved = 0
        self._withdrawn = 0
        self._volumes: dict[str, Volume] = {}
        """What the file has to say: of the last `save` that came to its end and was not withdrawn."""

    def load(self) -> dict[str, Volume]:
        """Return the volumes by name; none, where there is no file yet. Raises VolumeError."""
        try:
            content = Path(self.path).read_bytes()
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise VolumeError(f"{self.path} cannot be read: {error.strerror}") from error
        try:
            state = _decode(content)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, VolumeError) as error:
            raise VolumeError(
                f"{self.path} is damaged ({error}): repair it, or move it away to begin without volumes; the objects"
                " are in the store"
            ) from error
        self._volumes = state.volumes
        if state.boot != boot_id():
            # The machine was started anew: no container of then has anything mounted, and nobody will tell us.
            self._volumes = {
                name: msgspec.structs.replace(volume, mounts=frozenset()) for name, volume in state.volumes.items()
            }
        return self._volumes

    def ticket(self) -> int:
        """Return the place of a `save` in the order of all."""
        self._asked += 1
        return self._asked

    def save(self, volumes: dict[str, Volume], ticket: int) -> None:
        """Replace the file, and return once it is on the disk. Raises VolumeError, once what it said is back.

        A call that its caller gave up on may come to its turn late: it must not undo a later one.
        """
        with self._saving:
            if ticket < self._saved or ticket <= self._withdrawn:
                return
            try:
                self._write(volumes)
            except VolumeError:
                # It has its name already where only the sync of the directory failed.
                with contextlib.suppress(VolumeError):
                    self._write(self._volumes)
                raise
            with self._deciding:
                if ticket > self._withdrawn:
                    self._saved, self._volumes = ticket, volumes
                    return
            self._write(self._volumes)

    def withdraw(self, ticket: int) -> bool:
        """Have a `save` that was given up, or has failed, leave nothing in the file, and whatever was asked for before
        it. False where it has come to its end.
        """
        with self._deciding:
            if ticket <= self._saved:
                return False
            self._withdrawn = ticket
            return True

    def _write(self, volumes: dict[str, Volume]) -> None:
        state = State(version=VERSION, boot=boot_id(), volumes=volumes)
        try:
            _replace(self.path, msgspec.json.format(msgspec.json.encode(state, order="deterministic")) + b"\n")
        except OSError as error:
            raise VolumeError(f"{self.path} cannot be written: {error.strerror}") from error


def _decode(content: bytes) -> State:
    version = msgspec.json.decode(content, type=_Version).version
    if version != VERSION:
        raise VolumeError(f"it has version {version}, and this fusefs knows version {VERSION}")
    state = msgspec.json.decode(content, type=State)
    for name, volume in state.volumes.items():
        # Names become parts of paths.
        check_name("volume", name)
        check_name(volume.options.kind, volume.options.scope)
    return state


def _replace(path: str, content: bytes) -> None:
    directory, name = os.path.split(path)
    fd, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=directory)  # 0600, whatever the umask
    try:
        with open(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(fd)
        os.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    # A rename is on the disk once its directory is.
    disk.sync(directory)
