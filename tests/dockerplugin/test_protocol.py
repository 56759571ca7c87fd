"""The protocol without a socket: every request gets one answer in its form, whatever it is."""

import json
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusefs.dockerplugin.described import Described
from fusefs.dockerplugin.driver import Volumes
from fusefs.dockerplugin.errors import VolumeError
from fusefs.dockerplugin.protocol import (
    ANSWER_SECONDS,
    BODY_SECONDS,
    CONTENT_TYPE,
    MAX_BODY_BYTES,
    PATHS,
    application,
)
from fusefs.dockerplugin.state import StateFile

CALLS = [path for path in PATHS if path not in ("/Plugin.Activate", "/VolumeDriver.Capabilities")]


class PlainDirectory:
    """In the place of the mount, an ordinary directory with the same two in it."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        for kind in ("pipeline", "run"):
            (path / kind).mkdir(parents=True)

    async def ensure(self) -> None:
        pass


def driver(directory: Path) -> Volumes:
    mount = PlainDirectory(directory / "mount")
    return Volumes(mount, str(directory / "volumes"), StateFile(str(directory / "volumes.json")))


class Broken:
    """A driver that fails, or never ends."""

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error

    async def _do(self) -> Any:
        if self._error is not None:
            raise self._error
        await trio.sleep_forever()

    async def create(self, name: str, given: Mapping[str, str]) -> None:
        await self._do()

    async def remove(self, name: str) -> None:
        await self._do()

    async def mount(self, name: str, by: str) -> str:
        return str(await self._do())

    async def unmount(self, name: str, by: str) -> None:
        await self._do()

    async def path(self, name: str) -> str:
        return str(await self._do())

    async def get(self, name: str) -> Described:
        return msgspec.convert(await self._do(), Described)

    async def list(self) -> list[Described]:
        return [await self.get("")]


class Answered:
    """One answer."""

    def __init__(self, messages: list[dict[str, Any]]) -> None:
        start, *bodies = messages
        self.status = start["status"]
        self.type = dict(start["headers"])[b"content-type"].decode()
        self.body = b"".join(message["body"] for message in bodies)
        self.json = json.loads(self.body)
        assert not bodies[-1].get("more_body", False)

    def error(self) -> str:
        """The message, in an answer that is nothing else."""
        assert self.status != 200
        assert self.type == CONTENT_TYPE
        assert list(self.json) == ["Err"]
        message = self.json["Err"]
        assert isinstance(message, str)
        assert message
        assert "Traceback" not in message
        return message


async def ask(app: Any, path: str, chunks: Iterable[bytes | None], method: str = "POST") -> Answered:
    """Send a request in pieces; None: the client goes away."""
    pieces = iter(chunks)
    answered: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        piece = next(pieces, b"")
        if piece is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": piece, "more_body": piece != b""}

    async def send(message: dict[str, Any]) -> None:
        answered.append(message)

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"%2Frun%2Fdocker%2Fplugins%2Ffusefs.sock")],
        "client": None,
        "server": None,
    }
    await app(scope, receive, send)
    return Answered(answered)


def asked(app: Any, path: str, body: bytes = b"", method: str = "POST") -> Answered:
    async def main() -> Answered:
        return await ask(app, path, [body], method)

    return trio.run(main)


def test_a_conversation(tmp_path: Path) -> None:
    app = application(driver(tmp_path))
    for path, body, wanted in [
        ("/Plugin.Activate", b"", {"Implements": ["VolumeDriver"], "Err": ""}),
        ("/VolumeDriver.Capabilities", b"{}", {"Capabilities": {"Scope": "local"}, "Err": ""}),
        ("/VolumeDriver.List", b"{}", {"Volumes": [], "Err": ""}),
        ("/VolumeDriver.Create", b'{"Name":"v","Opts":null}', {"Err": ""}),
        ("/VolumeDriver.Mount", b'{"Name":"v","ID":"1"}', {"Mountpoint": f"{tmp_path}/mount/pipeline/v", "Err": ""}),
        ("/VolumeDriver.Path", b'{"Name":"v"}', {"Mountpoint": f"{tmp_path}/mount/pipeline/v", "Err": ""}),
        ("/VolumeDriver.Unmount", b'{"Name":"v","ID":"1","New":1}', {"Err": ""}),
        ("/VolumeDriver.Remove", b'{"Name":"v"}', {"Err": ""}),
    ]:
        answer = asked(app, path, body)
        assert (answer.status, answer.type, answer.json) == (200, CONTENT_TYPE, wanted)


@pytest.mark.parametrize("path", ["/", "/VolumeDriver.Lists", "/VolumeDriver.List/", "/volumedriver.list", "/Plugin.x"])
def test_unknown_paths(path: str, tmp_path: Path) -> None:
    answer = asked(application(driver(tmp_path)), path)
    assert answer.status == 404
    assert answer.error().startswith("unknown path: there are /Plugin.Activate, ")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD", "OPTIONS"])
def test_only_post(method: str, tmp_path: Path) -> None:
    answer = asked(application(driver(tmp_path)), "/VolumeDriver.List", method=method)
    assert (answer.status, answer.error()) == (405, "only POST is understood")


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"\xff",
        b'{"Name":"\xff"}',
        b'{"Name":7}',
        b'{"Name":"v","Opts":[]}',
        b'{"Name":"v","Opts":{"limit":3}}',
        b'{"Name":"\\ud800"}',
        b'{"x":' + b"[" * 60_000,
    ],
)
def test_bodies_that_are_not_what_they_should_be(body: bytes, tmp_path: Path) -> None:
    answer = asked(application(driver(tmp_path)), "/VolumeDriver.Create", body)
    assert answer.status == 400
    assert answer.error().startswith("the body is not what the protocol says: ")
    assert os.listdir(tmp_path / "mount" / "pipeline") == []


def test_what_was_made_for_nothing_is_taken_back(tmp_path: Path) -> None:
    """The limit cannot be set in a plain directory, and the state not be written in one that is missing."""
    app = application(driver(tmp_path))
    answer = asked(app, "/VolumeDriver.Create", b'{"Name":"v","Opts":{"limit":"3"}}')
    assert answer.error() == "pipeline v cannot be made: Operation not supported"
    mount = PlainDirectory(tmp_path / "other")
    app = application(Volumes(mount, str(tmp_path / "volumes"), StateFile(str(tmp_path / "missing" / "state"))))
    assert "state cannot be written" in asked(app, "/VolumeDriver.Create", b'{"Name":"v"}').error()
    assert os.listdir(tmp_path / "mount" / "pipeline") == os.listdir(tmp_path / "other" / "pipeline") == []
    assert asked(app, "/VolumeDriver.List").json["Volumes"] == []


def test_who_mounts_has_to_say_so(tmp_path: Path) -> None:
    app = application(driver(tmp_path))
    for path in ("/VolumeDriver.Mount", "/VolumeDriver.Unmount"):
        assert asked(app, path, b'{"Name":"v"}').error() == "ID is missing: who mounts the volume"


def test_the_largest_body(tmp_path: Path) -> None:
    app = application(driver(tmp_path))
    body = b'{"Name":"%s"}'
    room = MAX_BODY_BYTES - len(body) + 2
    assert asked(app, "/VolumeDriver.Get", body % (b"x" * room)).status == 500  # no such volume
    answer = asked(app, "/VolumeDriver.Get", body % (b"x" * (room + 1)))
    assert (answer.status, answer.error()) == (413, "the body is larger than 65536 bytes")


def test_a_large_body_is_read_to_its_end(tmp_path: Path) -> None:
    sent = 0

    def chunks() -> Iterable[bytes]:
        nonlocal sent
        for _ in range(100):
            sent += 1
            yield b"x" * 50_000

    async def main() -> Answered:
        return await ask(application(driver(tmp_path)), "/VolumeDriver.Get", chunks())

    assert trio.run(main).status == 413
    assert sent == 100


def test_a_body_that_ends_early(tmp_path: Path) -> None:
    async def main() -> Answered:
        return await ask(application(driver(tmp_path)), "/VolumeDriver.Create", [b'{"Name":"v"', None])

    assert trio.run(main).error() == "the body ended early"


def test_a_body_that_never_ends(tmp_path: Path) -> None:
    async def main() -> tuple[Answered, float]:
        answered: list[dict[str, Any]] = []
        begun = trio.current_time()

        async def send(message: dict[str, Any]) -> None:
            answered.append(message)

        scope = {"type": "http", "method": "POST", "path": "/VolumeDriver.Get", "headers": [], "query_string": b""}
        await application(driver(tmp_path))(scope, trio.sleep_forever, send)
        return Answered(answered), trio.current_time() - begun

    answer, seconds = trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.1))
    assert (answer.status, answer.error()) == (408, "the body did not arrive within 10 seconds")
    assert seconds == pytest.approx(BODY_SECONDS)


def test_what_never_ends_is_answered(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> tuple[Answered, float]:
        begun = trio.current_time()
        return await ask(application(Broken()), "/VolumeDriver.Get", [b"{}"]), trio.current_time() - begun

    answer, seconds = trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.1))
    assert answer.error() == "it took longer than 50 seconds and was given up: try again"
    assert seconds == pytest.approx(ANSWER_SECONDS)
    assert seconds < 60  # after which the engine gives up, without a word to the user
    assert "/VolumeDriver.Get took longer" in caplog.text


@pytest.mark.parametrize("path", CALLS)
def test_the_unexpected_is_in_the_log_and_not_in_the_answer(path: str, caplog: pytest.LogCaptureFixture) -> None:
    body = b'{"Name":"v","ID":"1"}'
    answer = asked(application(Broken(RuntimeError("secret"))), path, body)
    assert (answer.status, answer.error()) == (500, "this is a mistake in fusefs: its log says where")
    assert "RuntimeError: secret" in caplog.text


@pytest.mark.parametrize("path", CALLS)
def test_what_is_refused_says_why(path: str, caplog: pytest.LogCaptureFixture) -> None:
    answer = asked(application(Broken(VolumeError("because \udcff"))), path, b'{"Name":"v","ID":"1"}')
    assert (answer.status, answer.error()) == (500, "because \\udcff")
    assert "Traceback" not in caplog.text


# Whatever is sent


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return application(driver(tmp_path_factory.mktemp("plugin")))


def check(app: Any, path: str, body: bytes) -> None:
    answer = asked(app, path, body)
    if answer.status == 200:
        assert answer.json["Err"] == ""
    else:
        assert "mistake in fusefs" not in answer.error()


ANY_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text()),
    lambda values: st.one_of(st.lists(values), st.dictionaries(st.text(), values)),
    max_leaves=10,
)
FEW = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
NAMES = st.one_of(st.text(max_size=10), st.sampled_from(["v", "w", "cache"]))
OPTIONS = st.dictionaries(
    st.sampled_from(["pipeline", "run", "uid", "gid", "mode", "remove"]),
    st.one_of(st.text(max_size=5), st.sampled_from(["0", "7", "755", "app", "keep", "objects"])),
    max_size=3,
)


@FEW
@given(st.sampled_from(PATHS), st.binary(max_size=200))
def test_any_bytes(app: Any, path: str, body: bytes) -> None:
    check(app, path, body)


@FEW
@given(st.sampled_from(PATHS), ANY_JSON, ANY_JSON, ANY_JSON)
def test_any_json(app: Any, path: str, name: object, by: object, options: object) -> None:
    check(app, path, json.dumps({"Name": name, "ID": by, "Opts": options}).encode())


@FEW
@given(st.sampled_from(PATHS), NAMES, st.text(max_size=3), st.one_of(OPTIONS, st.dictionaries(st.text(), st.text())))
def test_any_options(app: Any, path: str, name: str, by: str, options: dict[str, str]) -> None:
    logging.disable(logging.WARNING)
    try:
        check(app, path, json.dumps({"Name": name, "ID": by, "Opts": options}).encode())
    finally:
        logging.disable(logging.NOTSET)
