"""What Docker, or whoever may open its socket, sends to the volume plugin."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import trio

from fusefs.dockerplugin import binds
from fusefs.dockerplugin.driver import Volumes
from fusefs.dockerplugin.protocol import CONTENT_TYPE, MAX_BODY_BYTES, PATHS, application
from fusefs.dockerplugin.state import StateFile
from tests.fuzz.checking import check_message, logged
from tests.fuzz.scratch import empty
from tests.fuzz.source import Source

WORDS = (
    *(
        b'{"Name":"a"}',
        b'"Name"',
        b'"ID"',
        b'"Opts":{',
        b'"pipeline":"',
        b'"run":"',
        b'"ro":""',
        b'"limit":"3"',
        b"\\ud800",
    ),
    *(
        b'"remove":"objects"',
        b'"mode":"0755"',
        b'"uid":"0"',
        b'".."',
        b"null",
        b"1e999",
        b"[" * 99,
        b"\\u0000",
        b"\xff",
    ),
)
_CREATED = b'{"Name":"a","Opts":{"ro":"","mode":"755"}}'
SEEDS = (
    b"\2"
    + bytes([len(_CREATED)])
    + _CREATED
    + b'\4\x15{"Name":"a","ID":"1"}\7\x0c{"Name":"a"}\5\x15{"Name":"a","ID":"1"}\3\x0c{"Name":"a"}',
    b"\x10\0\0\1\2\1\x08\1\2\0\4\1",
    b"\x09\0\0\2{}",
)
_NAMES = ("a", "b", "cache", "..", "", "x" * 129, "a/b", "nul\0", "\ud800", "new\nline", "\x1b[31m", "-")
_OPTIONS = ("pipeline", "run", "limit", "ro", "read-only", "uid", "gid", "mode", "remove", "rm", "\ud800")
_VALUES = ("", "a", "true", "false", "objects", "keep", "0", "3", "0755", "-1", "4294967295", "\u0663", "\n", "\ud800")
_OTHER_PATHS = ("/", "/VolumeDriver.Create/", "/VolumeDriver.create", "//", "/VolumeDriver.", "/%2e", "/\udcff")


def run(data: bytes) -> None:
    """Requests, one after the other: a byte for the path and one for the form of its body."""
    source = Source(data)
    top = empty("volumes")
    for kind in ("pipeline", "run"):
        (top / "mount" / kind).mkdir(parents=True)
    with logged("fusefs") as trouble, _without_mounts():
        volumes = Volumes(_Mount(top), str(top / "views"), StateFile(str(top / "volumes.json")))
        trio.run(_serve, application(volumes), source)
        trouble.check()
        again = Volumes(_Mount(top), str(top / "views"), StateFile(str(top / "volumes.json")))
        assert again._volumes == volumes._volumes, "what was answered is remembered"
    outside = {path.name for path in top.iterdir()} - {"mount", "views", "volumes.json"}
    assert not outside, "something was made where no volume is"
    assert {path.name for path in (top / "mount").iterdir()} == {"pipeline", "run"}


class _Mount:
    """An ordinary directory in the place of the mount."""

    def __init__(self, top: Path) -> None:
        self.path = str(top / "mount")

    async def ensure(self) -> None:
        pass


@contextmanager
def _without_mounts() -> Iterator[None]:
    """A directory in the place of each bind mount; no owners, which need root; and no waiting for the disk."""

    def bind(source: str, target: str) -> None:
        assert os.path.isdir(source)
        os.makedirs(target, exist_ok=True)

    def unbind(target: str) -> None:
        if os.path.isdir(target):
            os.rmdir(target)

    with (
        mock.patch.object(binds, "bind", bind),
        mock.patch.object(binds, "unbind", unbind),
        mock.patch("fusefs.dockerplugin.scopes.os.chown"),
        mock.patch("fusefs.dockerplugin.state.os.fsync"),
    ):
        yield


async def _serve(app: Any, source: Source) -> None:
    for _ in range(12):
        if not source:
            return
        kind = source.byte()
        path = (*PATHS, *_OTHER_PATHS)[kind % (len(PATHS) + len(_OTHER_PATHS))] if kind < 250 else "/" + source.text()
        method = "POST" if source.below(16) else source.pick(("GET", "PUT", "DELETE", "HEAD", "OPTIONS", "\n"))
        body = source.blob() if kind & 1 else _body(source)
        if source.below(64) == 1:
            body = body.ljust(MAX_BODY_BYTES + source.below(2), b" ")
        _check(method, *await _ask(app, method, path, body))


def _body(source: Source) -> bytes:
    """One of the right form, with anything in it."""
    asked: dict[str, Any] = {"Name": source.pick(_NAMES), "ID": source.pick(_NAMES)}
    if source.flag():
        asked["Opts"] = {source.pick(_OPTIONS): source.pick(_VALUES) for _ in range(source.below(4))}
    if source.below(8) == 7:
        asked[source.pick(tuple(asked))] = source.pick((None, 1, [], {}, True, 1e300))
    return json.dumps(asked).encode()


async def _ask(app: Any, method: str, path: str, body: bytes) -> tuple[int, dict[bytes, bytes], bytes]:
    """Ask as an HTTP server does: in pieces, and without a socket."""
    pieces = [body[: len(body) // 2], body[len(body) // 2 :]]
    raw = path.encode("utf-8", "surrogateescape")
    scope = {
        **{"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http"},
        **{"path": path, "raw_path": raw, "query_string": b"", "headers": [], "root_path": ""},
    }
    messages: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if not pieces:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    async def send(message: dict[str, Any]) -> None:
        messages.append(message)

    await app(scope, receive, send)
    start, *bodies = messages
    return start["status"], dict(start["headers"]), b"".join(message.get("body", b"") for message in bodies)


def _check(method: str, status: int, headers: dict[bytes, bytes], body: bytes) -> None:
    assert headers[b"content-type"].decode() == CONTENT_TYPE
    answer = json.loads(body)
    assert isinstance(answer["Err"], str)
    if status == 200:
        assert answer["Err"] == ""
        return
    assert status in (400, 404, 405, 413, 500), status
    assert list(answer) == ["Err"]
    check_message(answer["Err"])
    assert "mistake in fusefs" not in answer["Err"]
    assert len(answer["Err"]) < 8000
