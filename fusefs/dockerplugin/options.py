"""The options of a volume: what `docker volume create -o` may say, and what it comes to.

Nothing is looked up here: whether the pipeline exists, and whether it can be made, is for others to find out.
"""

from collections.abc import Callable, Mapping
from typing import Literal

import msgspec

from engine.config_values import MAX_COUNT, nearest
from engine.errors import InvalidError
from engine.names import check_scope_name
from fusefs.dockerplugin.errors import VolumeError

MAX_ID = 2**32 - 2
"""The last user or group: what follows means "leave it" to chown(2)."""
MAX_MODE = 0o7777

Kind = Literal["pipeline", "run"]

ALLOWED = (
    "a volume takes pipeline=NAME or run=ID (without both: the pipeline of its own name), limit=N, ro, uid=N, gid=N,"
    " mode=OCTAL and remove=keep or remove=objects"
)
_READ_ONLY = ("ro", "read-only", "readonly")
_KNOWN = ("pipeline", "run", "limit", *_READ_ONLY, "uid", "gid", "mode", "remove")


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What a volume is. Equal options are equal, however they were written."""

    kind: Kind
    scope: str
    """The name of the pipeline, or the id of the run."""
    limit: int | None = None
    """Objects in the pipeline, 0 for no limit. None: what the store says, or what somebody has set."""
    read_only: bool = False
    uid: int | None = None
    gid: int | None = None
    mode: int | None = None
    """Of the directory when it is made, as `uid` and `gid`: one that is there is left as it is."""
    remove: Literal["keep", "objects"] = "keep"
    """What becomes of the objects when the volume is removed."""

    def __str__(self) -> str:
        said = [f"{self.kind}={self.scope}"]
        said += [f"{name}={value}" for name in ("limit", "uid", "gid") if (value := getattr(self, name)) is not None]
        said += [] if self.mode is None else [f"mode={self.mode:o}"]
        said += ["ro"] if self.read_only else []
        return ", ".join([*said, f"remove={self.remove}"])


def parse(volume: str, given: Mapping[str, str]) -> Options:
    """Take the options of the volume `volume` apart. Raises VolumeError."""
    check_name("volume", volume)
    for name in given:
        if name not in _KNOWN:
            raise VolumeError(f"unknown option {_shown(name)}{nearest(name, _KNOWN)}: {ALLOWED}")
    if "pipeline" in given and "run" in given:
        raise VolumeError(f"a volume is a pipeline or a run, not both: {ALLOWED}")
    kind: Kind = "run" if "run" in given else "pipeline"
    if kind == "run" and "limit" in given:
        raise VolumeError("limit is for pipelines only: a run has no limit")
    return Options(
        kind=kind,
        scope=check_name(kind, given.get(kind, volume)),
        limit=_optional(given, "limit", _limit),
        read_only=_read_only(given),
        uid=_optional(given, "uid", _id),
        gid=_optional(given, "gid", _id),
        mode=_optional(given, "mode", _mode),
        remove=_remove(given.get("remove", "keep")),
    )


def check_name(kind: str, name: str) -> str:
    """Return `name` when a volume, pipeline or run may have it. Raises VolumeError.

    Volumes follow the rule of pipelines: such a name is always a single part of a path, and never `..`.
    """
    try:
        check_scope_name(kind, name.encode())
    except InvalidError as error:
        raise VolumeError(str(error)) from None
    return name


def _optional(given: Mapping[str, str], name: str, value: Callable[[str, str], int]) -> int | None:
    return value(name, given[name]) if name in given else None


def _limit(name: str, text: str) -> int:
    return _number(name, text, 10, MAX_COUNT, f"a number of objects from 0 (no limit) to {MAX_COUNT}")


def _id(name: str, text: str) -> int:
    return _number(name, text, 10, MAX_ID, f"a number from 0 to {MAX_ID}")


def _mode(name: str, text: str) -> int:
    return _number(name, text, 8, MAX_MODE, "an octal number from 0 to 7777")


def _number(name: str, text: str, base: int, most: int, allowed: str) -> int:
    # Not int() alone: it takes signs, spaces, underscores and the digits of other scripts.
    if 0 < len(text) <= 12 and set(text) <= set("0123456789"[:base]) and (number := int(text, base)) <= most:
        return number
    raise _refusal(name, text, allowed)


def _read_only(given: Mapping[str, str]) -> bool:
    names = [name for name in _READ_ONLY if name in given]
    if len(names) > 1:
        raise VolumeError(f"{' and '.join(names)} say the same: give one of them")
    if not names:
        return False
    value = given[names[0]]
    if value not in ("", "true", "false"):
        raise _refusal(names[0], value, "nothing, true or false")
    return value != "false"


def _remove(value: str) -> Literal["keep", "objects"]:
    if value == "keep":
        return "keep"
    if value == "objects":
        return "objects"
    raise _refusal("remove", value, "keep (the objects stay) or objects (they are deleted with the volume)")


def _refusal(name: str, value: str, allowed: str) -> VolumeError:
    return VolumeError(f"{name}={_shown(value)} is not allowed: it takes {allowed}")


def _shown(text: str) -> str:
    shown = repr(text)
    return shown if len(shown) <= 120 else f"{shown[:117]}..."
