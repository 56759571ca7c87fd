"""Docker's volume plugin protocol, version 1: its paths and its JSON. Knows nothing of volumes, mounts or sockets.

https://docs.docker.com/engine/extend/plugins_volume/: every request is a POST with a JSON object as its body, every
answer a JSON object whose "Err" is empty for success. Answers other than 200 are errors to the engine, which shows the
user what "Err" says.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Protocol

import msgspec
import trio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from fusefs.dockerplugin.described import Described
from fusefs.dockerplugin.errors import NoSuchVolumeError, VolumeError

CONTENT_TYPE = "application/vnd.docker.plugins.v1.1+json"
MAX_BODY_BYTES = 64 * 1024
BODY_SECONDS = 10.0
"""How long a body may take to arrive."""
ANSWER_SECONDS = 50.0
"""How long a request may take: below the minute after which the engine gives up on the short ones."""

log = logging.getLogger(__name__)


class Driver(Protocol):
    """What the protocol is spoken for. Each method raises VolumeError with a message for the user."""

    async def create(self, name: str, given: Mapping[str, str]) -> None: ...
    async def remove(self, name: str) -> None: ...
    async def mount(self, name: str, by: str) -> str: ...
    async def unmount(self, name: str, by: str) -> None: ...
    async def path(self, name: str) -> str: ...
    async def get(self, name: str) -> Described: ...
    async def list(self) -> list[Described]: ...


class Asked(msgspec.Struct, frozen=True, rename="pascal"):
    """The body of any request: what it does not need it does not look at."""

    name: str = ""
    id: str = msgspec.field(default="", name="ID")
    opts: dict[str, str] | None = None


Answer = dict[str, Any]
Call = Callable[[Driver, Asked], Awaitable[Answer]]


async def _activate(_driver: Driver, _asked: Asked) -> Answer:
    return {"Implements": ["VolumeDriver"]}


async def _capabilities(_driver: Driver, _asked: Asked) -> Answer:
    return {"Capabilities": {"Scope": "local"}}


async def _create(driver: Driver, asked: Asked) -> Answer:
    await driver.create(asked.name, asked.opts or {})
    return {}


async def _remove(driver: Driver, asked: Asked) -> Answer:
    await driver.remove(asked.name)
    return {}


async def _mount(driver: Driver, asked: Asked) -> Answer:
    return {"Mountpoint": await driver.mount(asked.name, _id(asked))}


async def _unmount(driver: Driver, asked: Asked) -> Answer:
    await driver.unmount(asked.name, _id(asked))
    return {}


async def _path(driver: Driver, asked: Asked) -> Answer:
    return {"Mountpoint": await driver.path(asked.name)}


async def _get(driver: Driver, asked: Asked) -> Answer:
    return {"Volume": await driver.get(asked.name)}


async def _list(driver: Driver, _asked: Asked) -> Answer:
    return {"Volumes": await driver.list()}


def _id(asked: Asked) -> str:
    if not asked.id:
        raise VolumeError("ID is missing: who mounts the volume")
    return asked.id


_CALLS: dict[str, Call] = {
    "/VolumeDriver.Create": _create,
    "/VolumeDriver.Remove": _remove,
    "/VolumeDriver.Mount": _mount,
    "/VolumeDriver.Unmount": _unmount,
    "/VolumeDriver.Path": _path,
    "/VolumeDriver.Get": _get,
    "/VolumeDriver.List": _list,
}
# Asked without a body, before the engine knows what we are.
_BARE: dict[str, Call] = {"/Plugin.Activate": _activate, "/VolumeDriver.Capabilities": _capabilities}
PATHS = (*_BARE, *_CALLS)


def application(driver: Driver) -> Starlette:
    """Return the ASGI application that speaks for `driver`."""
    routes = [
        *(Route(path, partial(_serve, driver, call, _nothing), methods=["POST"]) for path, call in _BARE.items()),
        *(Route(path, partial(_serve, driver, call, _decode), methods=["POST"]) for path, call in _CALLS.items()),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _refuse})
    app.router.redirect_slashes = False  # an unknown path is one
    return app


async def _serve(driver: Driver, call: Call, decode: Callable[[bytes], Asked], request: Request) -> Response:
    """Answer a request, within a time and whatever happens."""
    try:
        asked = decode(await _body(request))
        with trio.fail_after(ANSWER_SECONDS):
            return _answer(200, {**await call(driver, asked), "Err": ""})
    except HTTPException as error:
        return _error(error.status_code, error.detail)
    except VolumeError as error:
        level = logging.DEBUG if isinstance(error, NoSuchVolumeError) else logging.WARNING
        log.log(level, "%s: %s", request.scope["path"], error)
        return _error(500, str(error))
    except trio.TooSlowError:
        log.error("%s took longer than %g seconds", request.scope["path"], ANSWER_SECONDS)
        return _error(500, f"it took longer than {ANSWER_SECONDS:g} seconds and was given up: try again")
    except ClientDisconnect:
        return _error(400, "the body ended early")
    except Exception:
        log.exception("%s failed", request.scope["path"])
        return _error(500, "this is a mistake in fusefs: its log says where")


async def _body(request: Request) -> bytes:
    """Read the body, all of it: whoever is still sending does not read an answer. Raises HTTPException."""
    body = b""
    too_large = False
    with trio.move_on_after(BODY_SECONDS):
        async for chunk in request.stream():
            too_large = too_large or len(body) + len(chunk) > MAX_BODY_BYTES
            body = b"" if too_large else body + chunk
        if too_large:
            raise HTTPException(413, f"the body is larger than {MAX_BODY_BYTES} bytes")
        return body
    raise HTTPException(408, f"the body did not arrive within {BODY_SECONDS:g} seconds")


def _nothing(_body: bytes) -> Asked:
    return Asked()


def _decode(body: bytes) -> Asked:
    # The engine sends an empty object where there is nothing to say; curl sends nothing.
    try:
        return msgspec.json.decode(body or b"{}", type=Asked)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HTTPException(400, f"the body is not what the protocol says: {error}") from None


async def _refuse(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return _error(404, f"unknown path: there are {', '.join(PATHS)}")
    if error.status_code == 405:
        return _error(405, "only POST is understood")
    return _error(error.status_code, error.detail)


def _error(status: int, message: str) -> Response:
    # What an error says may hold names of files that are not UTF-8.
    return _answer(status, {"Err": message.encode("utf-8", "backslashreplace").decode()})


def _answer(status: int, answer: Answer) -> Response:
    return Response(msgspec.json.encode(answer), status, media_type=CONTENT_TYPE)
